"use strict";
const root = document.documentElement, theme = document.getElementById("theme");
function paint(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
  theme.setAttribute("aria-pressed", String(dark));
}
paint(matchMedia("(prefers-color-scheme: dark)").matches);
theme.addEventListener("click", () => paint(root.dataset.theme !== "dark"));

for (const list of document.querySelectorAll('[role="tablist"]')) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const choose = (chosen) => tabs.forEach((tab) => {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  });
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!move) return;
      const next = tabs[(i + move + tabs.length) % tabs.length];
      choose(next);
      next.focus();
    });
  });
}

const cells = JSON.parse(document.getElementById("cells").textContent), dialog = document.getElementById("pictures");
function open(split, key, label) {
  const cell = (cells[split] || {})[key];
  document.getElementById("pictures-title").textContent = label;
  const grid = document.getElementById("pictures-grid"), note = document.getElementById("pictures-note");
  grid.replaceChildren();
  const shown = cell ? cell.shown : [];
  note.textContent = !cell ? "No image." : shown.length === cell.total ? "" :
    shown.length ? `${shown.length} of ${cell.total} images, those of which the model is surest.` :
    `${cell.total} images; the page holds no pictures of them.`;
  for (const [id, confidence, uri] of shown) {
    const figure = document.createElement("figure"), image = document.createElement("img"), text = document.createElement("figcaption");
    image.src = uri;
    image.alt = id;
    text.textContent = `${confidence} · ${id}`;
    figure.append(image, text);
    grid.append(figure);
  }
  dialog.showModal();
}
document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

for (const matrix of document.querySelectorAll(".matrix")) {
  const rows = [...matrix.tBodies[0].rows].map((row) => [...row.querySelectorAll("button")]).filter((row) => row.length);
  rows.forEach((row, i) => row.forEach((button, j) => {
    button.addEventListener("click", () => open(matrix.dataset.split, button.dataset.cell, button.getAttribute("aria-label")));
    button.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [];
      const next = down === undefined ? undefined : (rows[i + down] || [])[j + right];
      if (!next) return;
      event.preventDefault();
      button.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }));
}

for (const share of document.querySelectorAll(".share")) {
  share.addEventListener("click", () => {
    const percent = document.getElementById(share.getAttribute("aria-controls")).classList.toggle("percent");
    share.setAttribute("aria-pressed", String(percent));
  });
}

for (const table of document.querySelectorAll(".sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const sort = () => {
      const up = head.getAttribute("aria-sort") === "descending";
      const value = (row) => { const text = row.cells[column].textContent.trim(), n = parseFloat(text.replace(/,/g, "")); return isNaN(n) ? text : n; };
      const rows = [...table.tBodies[0].rows].sort((a, b) => (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0) * (up ? 1 : -1));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      table.tBodies[0].append(...rows);
    };
    head.querySelector("button")?.addEventListener("click", sort);
  });
}
