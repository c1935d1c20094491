"""Tables of metrics, of one submission or of two side by side."""

import math
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from moodfield.cli import console

if TYPE_CHECKING:
    from moodfield.evaluation.bootstrap import Difference
    from moodfield.evaluation.mediaeval import Comparison, Evaluation


def print_score(score: "Evaluation", name: str, *, per_tag: bool) -> None:
    """Print the official metrics as a table, with notes."""
    terminal = console.terminal()
    parts = [score, *([score.without_excluded] if score.without_excluded else [])]
    terminal.print(f"[bold]{console.escape(name)}[/bold]: {len(score.report.tags)} tags")
    for part in parts:
        report, intervals = part.report, part.intervals
        terminal.print()
        interval = ["95 % interval"] if intervals else []
        table = console.table(f"{part.n_tracks:,} tracks", "macro", *interval, "micro", *interval, words=1)
        for metric in report.micro:
            cells: list[str] = []
            for mean, values in (("macro", report.macro), ("micro", report.micro)):
                cells.append(console.number(values[metric]))
                if intervals:
                    cells.append(format_interval(intervals[f"{metric}-{mean}"]))
            table.add_row(metric, *cells)
        terminal.print(table)
    if score.is_tuned_on_truth:
        terminal.print(
            f"\nThe decisions of {len(score.tuned_tags)} of {score.n_tunable_tags} tags are as if thresholds were "
            "tuned on this truth: F-score, precision and recall are too optimistic.",
        )
    if without := ", ".join(score.report.without_positives):
        terminal.print(f"\nWithout positives, so in no macro mean: {console.escape(without)}")
    if score.intervals and score.rare_tags:
        terminal.print(f"\nToo rare for intervals of their own: {console.escape(', '.join(score.rare_tags))}")
    if per_tag:
        terminal.print()
        table = console.table("tag", *score.report.per_tag, words=1)
        for column, tag in enumerate(score.report.tags):
            numbers = (console.number(values[column]) for values in score.report.per_tag.values())
            table.add_row(console.escape(tag), *numbers)
        terminal.print(table)


def print_comparison(comparison: "Comparison", a: str, b: str, *, per_tag: bool) -> None:
    """Print the metrics of two submissions as a table, and which one is better by macro PR-AUC."""
    terminal = console.terminal()
    terminal.print(f"1: {console.escape(a)}\n2: {console.escape(b)}\n")
    heads = ("1", "2", "1 − 2", "95 % interval", "p")
    table = console.table("", *heads, words=1)
    first, second = comparison.a.to_dict(), comparison.b.to_dict()
    for metric, difference in comparison.differences.items():
        table.add_row(metric, *map(console.number, (first[metric], second[metric])), *_format_difference(difference))
    terminal.print(table)
    if per_tag:
        terminal.print()
        table = console.table("PR-AUC", *heads, words=1)
        differences = comparison.tag_differences["PR-AUC"]
        values = comparison.a.per_tag["PR-AUC"], comparison.b.per_tag["PR-AUC"]
        for tag, *pair, difference in zip(comparison.a.tags, *values, differences, strict=True):
            table.add_row(console.escape(tag), *map(console.number, pair), *_format_difference(difference))
        terminal.print(table)
        tested = sum(not math.isnan(difference.p) for difference in differences)
        terminal.print(f"\nOf {tested} tags, about {tested / 20:.0f} have p < 0.05 by chance.")
        if comparison.rare_tags:
            terminal.print(f"Too rare for an interval and p: {console.escape(', '.join(comparison.rare_tags))}")
    terminal.print(f"\nBy macro PR-AUC, {_format_verdict(comparison.differences['PR-AUC-macro'])}.")


def _format_verdict(difference: "Difference") -> str:
    if math.isnan(difference.p):
        return "there are too few tracks for a test"
    if difference.p >= 0.05:
        return "1 and 2 do not differ significantly"
    return "1 is better than 2" if difference.value > 0 else "2 is better than 1"


def _format_difference(difference: "Difference") -> tuple[str, str, str]:
    if math.isnan(difference.p):
        return "–" if math.isnan(difference.value) else f"{difference.value:+.4f}", "–", "–"
    return f"{difference.value:+.4f}", f"{difference.low:+.4f} … {difference.high:+.4f}", f"{difference.p:.3f}"


def format_interval(interval: Iterable[float]) -> str:
    """The ends of an interval, or a dash if it is not defined."""
    low, high = interval
    return "–" if math.isnan(low) else f"{low:.4f} … {high:.4f}"


def print_metrics(run: Path) -> None:
    """Print the metrics of a finished run, in the first of the processes that trained it."""
    from moodfield import tagger
    from moodfield.card import Provenance
    from moodfield.training import distributed

    if not distributed.is_main():
        return
    for name, value in Provenance.read(run / tagger.BEST).metrics.items():
        console.result(f"{name:<34} {value:.4f}")
    console.result(f"the model is in {run}; try: moodfield tag --model {shlex.quote(str(run))} FILE")
