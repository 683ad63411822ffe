"use strict";
const $ = (id) => document.getElementById(id);
const TOP = 3, LIVE_MS = 200, FRAME = 480;
const state = { file: null, url: "", answer: null, top: false, token: "", stream: null, timer: 0, turn: 0, holds: false, names: [] };

// --- the server ---------------------------------------------------------------------------------------------------

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(state.token ? { Authorization: `Bearer ${state.token}` } : {}) };
  const response = await fetch(path, { ...options, headers, credentials: "omit", signal: AbortSignal.timeout(60000) });
  const body = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (response.status === 401) $("ask").open || $("ask").showModal();
  if (!response.ok) throw Object.assign(new Error(body.error || `the server answered ${response.status}`), { status: response.status });
  return body;
}

function status(name, text) {
  $("status").dataset.state = name;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

async function health() {
  let wait = 15000;
  try {
    const found = await (await fetch("healthz", { credentials: "omit" })).json();
    status(found.status, { ready: "ready", warming: "warming up", draining: "about to end" }[found.status] || found.status);
    if (found.status !== "ready") wait = 1000;
  } catch {
    status("gone", "not reachable");
    wait = 3000;
  }
  setTimeout(health, wait);
}

async function introduce() {
  try {
    const info = await ask("info");
    state.names = info.classes;
    $("model").textContent = `${info.model} · ${info.classes.length} classes · ${info.image_size} px`;
    $("version").textContent = `emojax ${info.version}.`;
    document.title = `emojax – ${info.model}`;
    if (!state.answer) bars(info.classes.map((name) => [name, null]), []);
  } catch (error) {
    if (error.status !== 401) problem(error.message);
  }
}

// --- the answer ---------------------------------------------------------------------------------------------------

const percent = (p) => (p >= 0.9995 ? "100 %" : p < 0.0005 ? "0 %" : `${(100 * p).toFixed(1)} %`);

function bars(rows, inside) {
  const list = $("bars"), shown = state.top ? rows.slice(0, TOP) : rows;
  while (list.children.length > shown.length) list.lastChild.remove();
  while (list.children.length < shown.length) {
    const row = document.createElement("li");
    for (const [kind, part] of [["name", "span"], ["value", "span"], ["tube", "span"]]) {
      const element = document.createElement(part);
      element.className = kind;
      row.append(element);
    }
    const fill = document.createElement("span");
    fill.className = "fill";
    row.lastChild.setAttribute("aria-hidden", "true"); // the number says it
    row.lastChild.append(fill);
    list.append(row);
  }
  shown.forEach(([name, p], i) => {
    const row = list.children[i];
    row.className = [i === 0 && p !== null ? "first" : "", inside.includes(name) ? "inside" : ""].join(" ").trim();
    row.children[0].textContent = name;
    row.children[0].title = name;
    row.children[1].textContent = p === null ? "" : percent(p);
    row.querySelector(".fill").style.width = `${100 * (p || 0)}%`;
  });
}

function show(answer, spoken) {
  state.answer = answer;
  problem("");
  const rows = Object.entries(answer.probs).sort((a, b) => b[1] - a[1]), sure = answer.class !== null;
  $("answer").classList.toggle("unsure", !sure);
  $("answer-class").textContent = sure ? answer.class : "unsure";
  $("answer-share").textContent = percent(answer.confidence);
  const notes = [];
  if (!sure) notes.push(`Too unsure for an answer; the best guess is ${rows[0][0]}.`);
  if (answer.set) notes.push(answer.set.length ? `Set: ${answer.set.join(", ")}.` : "No class is probable enough for the set.");
  $("note").textContent = notes.join(" ");
  bars(rows, answer.set || []);
  overlay();
  if (spoken) $("live").textContent = `${sure ? answer.class : "unsure"}, ${percent(answer.confidence)}. ${rows.slice(1, TOP).map(([name, p]) => `${name} ${percent(p)}`).join(", ")}`;
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// --- the picture --------------------------------------------------------------------------------------------------

function source() {
  const video = $("video"), photo = $("photo");
  return video.hidden ? [photo, photo.naturalWidth, photo.naturalHeight] : [video, video.videoWidth, video.videoHeight];
}

function fit() { // the figure gets the picture's proportions, so that the map can be placed in shares of it
  const stage = $("stage").getBoundingClientRect(), [, width, height] = source();
  if (!width || !height) return;
  const scale = Math.min(stage.width / width, stage.height / height);
  $("shown").style.width = `${width * scale}px`;
  $("shown").style.height = `${height * scale}px`;
}

function overlay() {
  const map = $("map"), found = state.answer && state.answer.attention;
  map.hidden = !found || !$("explain").checked || $("shown").hidden;
  if (map.hidden) return;
  const [left, top, right, bottom] = found.box.map((x) => 100 * x);
  if (map.src !== found.png) map.src = found.png;
  map.alt = `Where the evidence for ${found.class} lies`;
  Object.assign(map.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`, opacity: $("opacity").value / 100 });
}

function reveal(what) {
  $("drop").hidden = true;
  $("shown").hidden = false;
  $("photo").hidden = what !== "photo";
  $("video").hidden = what !== "video";
}

async function classify(file, { spoken = true } = {}) {
  const turn = ++state.turn, explain = $("explain").checked;
  if (spoken) $("stage").classList.add("busy");
  try {
    const known = /^image\/(jpeg|png|webp|bmp|gif|tiff)$/.test(file.type);
    const type = known ? file.type : "application/octet-stream";
    const answer = await ask(`predict?explain=${explain}`, { method: "POST", body: file, headers: { "Content-Type": type } });
    if (turn === state.turn) show(answer, spoken);
  } catch (error) {
    if (turn !== state.turn || (!spoken && error.status === 429)) return;
    state.answer = null;
    $("map").hidden = true;
    $("answer-class").textContent = "–";
    $("answer-share").textContent = $("note").textContent = "";
    bars(state.names.map((name) => [name, null]), []);
    problem(error.message);
  } finally {
    if (turn === state.turn) $("stage").classList.remove("busy");
  }
}

function take(file) {
  stop();
  state.file = file;
  if (state.url) URL.revokeObjectURL(state.url);
  state.url = URL.createObjectURL(file);
  $("map").hidden = true;
  $("photo").src = state.url;
  reveal("photo");
  classify(file);
}

// --- the webcam ---------------------------------------------------------------------------------------------------

async function start() {
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "user" } });
  } catch (error) {
    problem(navigator.mediaDevices ? `The webcam cannot be used: ${error.message}` : "The webcam needs https, or a server on this machine.");
    return;
  }
  problem("");
  state.answer = null;
  state.holds = false;
  $("map").hidden = true;
  $("video").srcObject = state.stream;
  await $("video").play();
  reveal("video");
  fit();
  $("webcam").textContent = "Stop webcam";
  $("webcam").setAttribute("aria-pressed", "true");
  $("snap").hidden = false;
  frame();
}

function frame() {
  const video = $("video"), canvas = document.createElement("canvas");
  const scale = Math.min(1, FRAME / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(async (blob) => {
    const began = performance.now();
    if (blob && state.stream && !state.holds) await classify(blob, { spoken: false });
    if (state.stream && !state.holds) state.timer = setTimeout(frame, Math.max(0, LIVE_MS - (performance.now() - began)));
  }, "image/jpeg", 0.9);
}

function hold() {
  const video = $("video"), canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => blob && take(blob), "image/jpeg", 0.95);
}

function stop() {
  clearTimeout(state.timer);
  state.turn++;
  if (!state.stream) return;
  for (const track of state.stream.getTracks()) track.stop();
  state.stream = $("video").srcObject = null;
  $("webcam").textContent = "Use webcam";
  $("webcam").setAttribute("aria-pressed", "false");
  $("snap").hidden = true;
  $("shown").hidden = !state.url;
  $("drop").hidden = Boolean(state.url);
  if (state.url) reveal("photo");
  fit();
}

// --- what a person does -------------------------------------------------------------------------------------------

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { if ($("file").files[0]) take($("file").files[0]); $("file").value = ""; });
$("webcam").addEventListener("click", () => (state.stream ? stop() : start()));
$("snap").addEventListener("click", hold);
$("opacity").addEventListener("input", overlay);
$("explain").addEventListener("change", () => {
  if ($("explain").checked && state.file && !state.stream && !(state.answer && state.answer.attention)) classify(state.file);
  else overlay();
});
for (const [id, top] of [["top", true], ["all", false]]) {
  $(id).addEventListener("click", () => {
    state.top = top;
    $("top").setAttribute("aria-pressed", String(top));
    $("all").setAttribute("aria-pressed", String(!top));
    if (state.answer) show(state.answer, false);
    else bars(state.names.map((name) => [name, null]), []);
  });
}
$("photo").addEventListener("load", () => { fit(); overlay(); });
$("photo").addEventListener("error", () => { // the server reads formats, such as TIFF, that browsers do not show
  $("shown").hidden = true;
  $("drop").hidden = false;
});
addEventListener("resize", fit);
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData ? event.clipboardData.files : [])].find((one) => one.type.startsWith("image/"));
  if (file) take(file);
});
for (const name of ["dragenter", "dragover"]) addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.add("over"); });
for (const name of ["dragleave", "drop"]) addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.remove("over"); });
addEventListener("drop", (event) => { if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]); });
$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value;
  $("ask").close();
  introduce();
  if (state.file) classify(state.file);
});
health();
introduce();
