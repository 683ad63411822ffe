"""`emojax robustness`: where a trained model is worse than elsewhere, and how it stands damaged or mirrored ones."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from emojax.cli import model_options, other_data


def main(arguments: list[str]) -> int:
    """Prints slices, corruptions and flip consistency; writes JSON, Markdown and a heat map."""
    parser = argparse.ArgumentParser(prog="emojax robustness", description=__doc__)
    model_options.add(parser)
    other_data.add_place(parser)
    parser.add_argument("--split", default="val", help="train, val or test (default: val)")
    parser.add_argument(
        "--limit",
        type=int,
        default=2000,
        metavar="N",
        help="pictures that are damaged, spread evenly over the split; slices see all (default: 2000; 0 = all)",
    )
    parser.add_argument("--report", default="", help="folder (default: WORKDIR/report)")
    options = parser.parse_args(arguments)

    import numpy as np

    from emojax import decision_plots, figures, robustness, slices, workdir
    from emojax.errors import ConfigError
    from emojax.files import write_bytes, write_json, write_text
    from emojax.predict import load
    from emojax.report import decisions

    if options.limit < 0:
        raise ConfigError(f"--limit={options.limit}: expected 0 or more")
    bundled = model_options.is_bundle(options)
    if bundled and not options.report:
        raise ConfigError(f"--workdir={options.workdir} is a bundle, which stays as it is: give --report=FOLDER too")
    classifier = load(options.workdir, which=options.which, views=options.views)
    splits = other_data.open_own(classifier, options, cache=model_options.cache(options)).splits
    if options.split not in splits:
        raise ConfigError(f"--split={options.split}: the data have {', '.join(splits)}")
    split = splits[options.split]

    found = slices.with_vote_entropy(classifier.predict_split(split))
    groups = slices.judge(slices.with_looks(found, split.images))
    wide = max(len(f"{group.column} {group.value}") for group in groups) if groups else 0
    for group in groups:
        flag = f"  worse than the rest, p = {group.p:.2g}" if group.worse else ""
        sys.stdout.write(
            f"{f'{group.column} {group.value}':<{wide}}  {group.n:>6,}  {100 * group.accuracy:5.1f} % "
            f"[{100 * group.low:.1f}, {100 * group.high:.1f}]{flag}\n"
        )

    if options.limit and options.limit < len(split):
        split = split.take(np.linspace(0, len(split) - 1, options.limit).round().astype(int))
    sys.stdout.write(f"\naccuracy in percent at severities 1 to 5, {len(split):,} pictures\n")
    result = robustness.measure(classifier, split, say=_say)
    if options.split == "test" and not bundled:
        command = f"emojax robustness {shlex.join(arguments)}"
        for line in workdir.noted_test(Path(options.workdir), command, result.clean):
            sys.stdout.write(line + "\n")
    flip, mean = result.flip, result.means["all"]
    sys.stdout.write(
        f"mean corruption accuracy {100 * mean.value:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]\n"
        f"mirrored: {100 * flip.equal:.1f} % keep their class [{100 * flip.low:.1f}, {100 * flip.high:.1f}], "
        f"mean change of the probability {flip.mean_change:.4f}\n"
    )
    folder = Path(options.report or Path(options.workdir) / "report")
    content = {"split": options.split, "views": classifier.views, **result.to_json(), "slices": slices.to_json(groups)}
    figure = decision_plots.robustness(
        result.corruptions, clean=result.clean, title=f"Accuracy under corruption, {options.split}"
    )
    write_bytes(folder / "robustness.png", figures.png(figure))
    write_json(folder / "robustness.json", content)
    write_text(folder / "robustness.md", decisions.robustness_page(content))
    sys.stdout.write(f"report: {folder / 'robustness.md'}\n")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
