"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import dataclasses
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from emojax import __version__, jsonl, predictions_csv, workdir
from emojax.errors import DataError
from emojax.files import write_text
from emojax.report import DATA, html_data, html_decisions, html_sections, html_split
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
        ("calibrated", "After calibration", html_decisions.calibrated(macros, report)),
        ("slices", "Slices", html_sections.slices(macros, contents)),
        ("robustness", "Robustness", html_decisions.robustness(macros, report)),
        ("training", "Training", html_sections.training(macros, folder, first)),
        ("data", "Data check", html_data.section(macros, contents, read_json(report / DATA))),
        ("how", "How it was made", html_sections.how(macros, contents, folder)),
        ("previous", "Against the run before", html_sections.against(macros, judged, first, folder, previous)),
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
    """The run beside this one that ended last before it and judged the same images; None where there is none."""
    own = folder.resolve()
    beside = {
        path.parent: path.stat().st_mtime_ns for path in own.parent.glob(f"*/{workdir.FINISHED}") if path.parent != own
    }
    ended = own / workdir.FINISHED
    end = ended.stat().st_mtime_ns if ended.is_file() else math.inf  # a run that is about to end
    earlier = [path for path, time in beside.items() if time <= end]
    judged = _judged(own)
    for path in sorted(earlier, key=lambda path: (beside[path], path.name), reverse=True):
        if judged and _judged(path) == judged:
            return path
    return None


def _judged(folder: Path) -> dict[str, frozenset[str]]:
    """split → ids of the records that a run has judged; {} where its predictions cannot be read."""
    found = {}
    for name in ("test", "val"):
        path = folder / "report" / f"{name}-predictions.csv"
        if path.is_file():
            try:
                found[name] = frozenset(predictions_csv.read(path)[0].id.tolist())
            except DataError:
                return {}
    return found


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
