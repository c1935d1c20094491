"""Tables of metrics, and of two submissions side by side.

In: scores and comparisons. Out: tables on a terminal.
Knows nothing of: how anything is measured.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moodfield.cli import console

if TYPE_CHECKING:
    from moodfield.evaluation.bootstrap import Difference
    from moodfield.evaluation.mediaeval import Comparison, Evaluation


def show(score: "Evaluation", name: str, *, per_tag: bool) -> None:
    """Print the official metrics as a table, with notes."""
    terminal = console.terminal(stderr=False)
    parts = {f"{score.n_tracks:,} tracks": score} | (
        {f"{score.without_excluded.n_tracks:,} tracks": score.without_excluded} if score.without_excluded else {}
    )
    terminal.print(f"[bold]{console.plain(name)}[/bold]: {len(score.report.tags)} tags", highlight=False)
    for what, part in parts.items():
        report, sure = part.report, part.intervals
        terminal.print()
        ends = ["95 % interval"] if sure else []
        table = console.table(what, "macro", *ends, "micro", *ends, words=1)
        for number in report.micro:
            cells: list[str] = []
            for mean, values in (("macro", report.macro), ("micro", report.micro)):
                cells.append(_four(values[number]))
                if sure:
                    cells.append(_span(sure[f"{number}-{mean}"]))
            table.add_row(number, *cells)
        terminal.print(table)
    if score.is_tuned_on_truth:
        terminal.print(
            f"\nThe decisions for {len(score.tuned_tags)} of {score.n_tunable_tags} tags are those of thresholds "
            "tuned on this very truth: F, precision and recall flatter.",
            highlight=False,
        )
    if score.report.without_positives:
        terminal.print(
            f"\nWithout positives, and in no macro mean: {console.plain(', '.join(score.report.without_positives))}"
        )
    if score.intervals and score.rare_tags:
        terminal.print(f"\nOn too few tracks for intervals of their own: {console.plain(', '.join(score.rare_tags))}")
    if per_tag:
        terminal.print()
        table = console.table("tag", *score.report.per_tag, words=1)
        for column, tag in enumerate(score.report.tags):
            table.add_row(console.plain(tag), *(_four(values[column]) for values in score.report.per_tag.values()))
        terminal.print(table)


def show_beside(found: "Comparison", one: str, other: str, *, per_tag: bool) -> None:
    """Print the metrics of two submissions as a table, and which one is ahead by macro PR-AUC."""
    terminal = console.terminal(stderr=False)
    terminal.print(f"1: {console.plain(one)}\n2: {console.plain(other)}\n", highlight=False)
    table = console.table("", "1", "2", "1 − 2", "95 % interval", "p", words=1)
    a, b = found.a.to_dict(), found.b.to_dict()
    for name, each in found.differences.items():
        table.add_row(name, _four(a[name]), _four(b[name]), *_ahead(each))
    terminal.print(table)
    if per_tag:
        terminal.print()
        table = console.table("PR-AUC", "1", "2", "1 − 2", "95 % interval", "p", words=1)
        values = found.a.per_tag["PR-AUC"], found.b.per_tag["PR-AUC"], found.tag_differences["PR-AUC"]
        for tag, first, second, each in zip(found.a.tags, *values, strict=True):
            table.add_row(console.plain(tag), _four(first), _four(second), *_ahead(each))
        terminal.print(table)
        tested = sum(not math.isnan(each.p) for each in found.tag_differences["PR-AUC"])
        terminal.print(f"\nOf {tested} tags, about {tested / 20:.0f} have p < 0.05 by chance.")
        if found.rare_tags:
            terminal.print(f"On too few tracks for an interval and p: {console.plain(', '.join(found.rare_tags))}")
    first = found.differences["PR-AUC-macro"]
    better = "1 is ahead of 2" if first.value > 0 else "2 is ahead of 1"
    better = better if first.p < 0.05 else "1 and 2 cannot be told apart"
    better = "nothing can be told: there are too few tracks" if math.isnan(first.p) else better
    terminal.print(f"\nBy macro PR-AUC, {better}.", highlight=False)


def _ahead(each: "Difference") -> tuple[str, str, str]:
    if math.isnan(each.p):
        return "–" if math.isnan(each.value) else f"{each.value:+.4f}", "–", "–"
    return f"{each.value:+.4f}", f"{each.low:+.4f} … {each.high:+.4f}", f"{each.p:.3f}"


def _span(ends: Iterable[float]) -> str:
    low, high = ends
    return "–" if math.isnan(low) else f"{low:.4f} … {high:.4f}"


def _four(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
