"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any

from emojax import __version__, jsonl, predictions_csv, workdir
from emojax.files import write_text
from emojax.report import DATA, html_data, html_sections, html_split
from emojax.report.html_sections import read_json
from emojax.report.pictures import Pictures, Source

PAGE = "report.html"


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: anchor, title, and HTML that is already escaped."""

    id: str
    title: str
    html: str


def write(folder: Path, *, source: Source | None, previous: Path | None = None) -> Path:
    """Writes FOLDER/report/report.html from the files that the run has left there; returns its path.

    Args:
      folder: work directory of a run whose report/ has been written.
      source: where pictures come from; None = a page without pictures.
      previous: work directory of another run, to tell what is different.
    """
    pages, report = templates(), folder / "report"
    rows = jsonl.read(folder / "metrics.jsonl")
    contents, judged, views, cells = {}, {}, [], {}
    for name in ("test", "val"):
        if not (content := read_json(report / f"{name}.json")):
            continue
        predictions, _ = predictions_csv.read(report / f"{name}-predictions.csv")
        seen = source.of(predictions, name) if source and name in source.splits else Pictures({})
        contents[name] = content
        times = len(workdir.tests(folder)) if name == "test" else 0
        judged[name] = predictions
        views.append(html_split.split_view(name, content, predictions, seen, rows, judged=times))
        cells[name] = html_split.cell_pictures(predictions, seen)
    macros: Any = pages.get_template("sections.html").module
    config, first = read_json(folder / workdir.CONFIG), next(iter(contents.values()))

    def tabbed(name: str, macro: Any) -> Any:
        return macros.tabbed(name, [(view["name"], macro(view)) for view in views])

    made = [
        ("numbers", "Numbers", macros.headline(views, first.get("notes", ()))),
        ("confusion", "Confusion matrix", tabbed("confusion", macros.matrix)),
        ("classes", "Classes", tabbed("classes", macros.classes)),
        ("mistakes", "Surest mistakes", tabbed("mistakes", macros.mistakes)),
        ("calibration", "Calibration", html_sections.probabilities(macros, judged)),
        ("slices", "Slices", html_sections.slices(macros, contents)),
        ("training", "Training", html_sections.training(macros, folder)),
        ("data", "Data check", html_data.section(macros, contents, read_json(report / DATA))),
        ("how", "How it was made", html_sections.how(macros, contents, folder)),
        ("previous", "Against the run before", html_sections.against(macros, contents, folder, previous)),
    ]
    text = pages.get_template("page.html").render(
        title=f"{first['dataset']}: report",
        run={
            **{key: first[key] for key in ("dataset", "result", "step", "selected_by", "command")},
            "model": config["model"]["name"],
            "image_size": config["image_size"],
            "version": __version__,
        },
        sections=[Section(*part) for part in made if str(part[2]).strip()],
        cells=cells,
        style=text_of("style.css"),
        script=text_of("page.js"),
    )
    write_text(report / PAGE, text)
    return report / PAGE


def previous_run(folder: Path) -> Path | None:
    """The run beside this one that ended last, on data of the same name; None where there is none."""
    beside = [path for path in folder.resolve().parent.glob(f"*/{workdir.FINISHED}") if path.parent != folder.resolve()]
    for path in sorted(beside, key=lambda path: path.stat().st_mtime, reverse=True):
        if _dataset(path.parent) == _dataset(folder):
            return path.parent
    return None


def _dataset(folder: Path) -> str:
    contents = [read_json(folder / "report" / f"{name}.json") for name in ("test", "val")]
    return next((content["dataset"] for content in contents if content), "")


def templates() -> Any:
    """The Jinja environment of the pages. Every value is escaped unless a template says otherwise; they say so for
    style, script and figures only."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("emojax.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def text_of(name: str) -> str:
    """Content of a file beside the templates."""
    return (files("emojax.report") / "templates" / name).read_text(encoding="utf-8")
