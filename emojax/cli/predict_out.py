"""Where the rows of `emojax predict` go, and what is told meanwhile and in the end."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emojax.data.face_crops import NO_FACE
from emojax.progress import Terminal, duration
from emojax.seen import Seen

if TYPE_CHECKING:
    from emojax.cli.predict_rows import Form, Row
    from emojax.predict import Classifier

Lines = Callable[..., Iterator[str]]


class Output:
    """The standard output, or the file of --out.

    Attributes:
      seen: names of the pictures whose rows are there.
      unread: how many pictures of an earlier call could not be read.
    """

    def __init__(
        self, options: argparse.Namespace, classifier: Classifier, form: Form, lines: Lines, *, width: int
    ) -> None:
        """Raises what `growing.open_table` raises."""
        self._form, self._lines, self._width = form, lines, width
        self._table, self._first, self.seen, self.unread = None, True, Seen(), 0
        if not options.out:
            return
        from emojax import growing

        self._table = growing.open_table(
            Path(options.out),
            form.columns(),
            key="image",
            size="faces",
            about=origin(options, classifier),
            flat=form.flat,
        )
        self.seen = self._table.seen
        if self._table.rows:
            self.unread = sum(map(_is_unread, self._table.cells("error")))
            sys.stderr.write(f"emojax: {options.out} has {self._table.rows:,} rows; going on after them\n")

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        if self._table:
            self._table.close()

    def write(self, groups: Sequence[Sequence[Row]]) -> None:
        """The rows of some pictures."""
        if self._table:
            for group in groups:
                self._table.write([self._form.nested(row) for row in group])
            return
        rows = [row for group in groups for row in group]
        if self._first:  # of a list on standard input no name was known before
            self._width = max([self._width, *(len(str(next(iter(row.where.values())))) for row in rows)])
        for line in self._lines(self._form, rows, first=self._first, width=self._width):
            sys.stdout.write(line + "\n")
        self._first = False

    def finish(self) -> None:
        """All rows are written."""
        if self._table:
            self._table.finish()


def origin(options: argparse.Namespace, classifier: Classifier) -> dict[str, Any]:
    """What decides about the rows of a table, besides the pictures themselves."""
    return {
        "weights": classifier.digest(),
        "update": classifier.step,
        "views": classifier.views,
        "image_size": classifier.image_size,
        "decision": classifier.decision.text() if classifier.decision else "",
        "post_process": Path(options.post_process).read_text(encoding="utf-8") if options.post_process else "",
        "faces": [options.min_face, options.min_score, options.margin] if options.faces else [],
        "abstain": options.abstain,
    }


def _is_unread(error: str | None) -> bool:
    """Whether a row with this `error` is of a picture that could not be read."""
    return bool(error) and error != NO_FACE


class Progress:
    """Counts pictures: a live line on stderr, and a summary with the throughput."""

    def __init__(self, total: int, *, already: int, unread: int) -> None:
        """`total` pictures as far as known, 0 = unknown, of which `already` were there, `unread` of them without a
        class."""
        self._terminal, self._start = Terminal(sys.stderr), time.monotonic()
        self._total, self._already, self._unread_before = total, already, unread
        self._first = self._start  # when the first part was done: before it the model was compiled
        self._counted, self._done, self._rows, self._unread, self._faceless = 0, 0, 0, 0, 0

    def add(self, groups: Sequence[Sequence[Row]]) -> None:
        """Some more pictures are done."""
        self._done += len(groups)
        for group in groups:
            self._rows += sum(row.verdict is not None for row in group)
            self._faceless += group[0].error == NO_FACE
            self._unread += _is_unread(group[0].error)
        if not self._counted:
            self._first, self._counted = time.monotonic(), self._done
        self._terminal.update(self._parts)

    def clear(self) -> None:
        """Takes the live line away, so that rows can be shown."""
        self._terminal.clear()

    def told(self, out: str) -> int:
        """Tells what was done and how fast; returns the exit code."""
        self.clear()
        seconds = time.monotonic() - self._start
        what = f"{self._done:,} pictures" + (f", {self._rows:,} faces" if self._rows > self._done else "")
        where = f" -> {out}" if out else ""
        speed = f" ({self._done / seconds:,.1f} pictures/s)" if self._done and seconds else ""
        self._terminal.message(f"emojax: {what} in {seconds:.1f} s{speed}{where}")
        if self._faceless:
            self._terminal.message(
                f"emojax: no face found in {self._faceless:,} of {self._done:,} pictures; smaller faces are found with "
                "a lower --min-face, doubtful ones with a lower --min-score"
            )
        if self._unread:
            self._terminal.message(f"emojax: {self._unread:,} of {self._done:,} pictures could not be read")
        if self._unread_before:
            self._terminal.message(
                f"emojax: {self._unread_before:,} of {self._already:,} pictures in {out} could not be read by an "
                "earlier call, and were not tried again; the column error says why"
            )
        return 2 if self._unread or self._unread_before else 0

    def _parts(self) -> list[tuple[int, str]]:
        done, total = self._done + self._already, max(self._total, self._done + self._already)
        parts = [(3, f"{done:,}/{total:,} pictures" if self._total else f"{done:,} pictures")]
        if self._done > self._counted:
            rate = (self._done - self._counted) / max(time.monotonic() - self._first, 1e-9)
            parts.append((2, f"{rate:,.1f}/s"))
            if self._total:
                parts.append((1, f"{duration((total - done) / rate)} left"))
        return parts
