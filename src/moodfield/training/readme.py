"""The README of a model folder, generated from its card and provenance."""

import re
from collections.abc import Iterator, Mapping, Sequence

from moodfield.card import EMBEDDING, Card, Example, Provenance


def page(card: Card, provenance: Provenance, *, appendix: str = "") -> str:
    """Format the README as Markdown.

    Args:
        card: Card of the model.
        provenance: Origin, metrics, limits and examples of the model.
        appendix: Markdown to end with; its headings become one level deeper.
    """
    lines = [f"# {card.name}", "", card.summary, "", f"**Licence.** {card.licence}", "", *_vocabulary(card)]
    lines += _section("Limits", [f"- {limit}" for limit in provenance.limits])
    for title, values in (("Origin", provenance.origin), ("Training data", provenance.training_data)):
        lines += _section(title, [f"- **{name}**: {text}" for name, text in values.items()])
    lines += _metrics(provenance.metrics)
    half = (len(provenance.examples) + 1) // 2
    lines += _examples("Tracks with the best agreement", provenance.examples[:half], card.themes)
    lines += _examples("Tracks with the worst agreement", provenance.examples[half:], card.themes)
    return "\n".join(lines) + (f"\n{_deeper(appendix.strip())}\n" if appendix else "")


def _vocabulary(card: Card) -> Iterator[str]:
    moods = ", ".join(tag for tag in card.vocabulary if tag not in card.themes)
    yield from (f"**Moods.** {moods}", "")
    if card.themes:
        yield from (f"**Themes.** {', '.join(card.themes)}", "")
    for head in card.heads:
        yield f"**Tags of the head `{head.name}`.** {', '.join(head.vocabulary)}"
        yield ""
    if card.calibration:
        yield (
            "**Scores** are calibrated: among the tracks used for calibration, the score is the share of tracks with "
            "this score that have the tag. See *calibration* under *Origin*."
        )
        yield ""
    if channels := card.outputs.get(EMBEDDING):
        yield (
            f"**Embedding.** The output `{EMBEDDING}` of `model.onnx` has {channels} numbers for every step of time: "
            "the last feature map, mean over frequency. Its mean over time describes a track (`Tagging.embedding`); "
            "logits are a linear function of it."
        )
        yield ""
    if card.priors:
        rarest, commonest = min(card.priors), max(card.priors)
        yield (
            "**Priors** are the shares of the training tracks (of the model or of its teacher) with each tag: from "
            f"{rarest:.2%} for the rarest tag to {commonest:.2%} for the commonest."
        )
        yield ""


def _section(title: str, rows: Sequence[str], header: Sequence[str] = ()) -> list[str]:
    return [f"## {title}", "", *header, *rows, ""] if rows else []


def _metrics(metrics: Mapping[str, float]) -> list[str]:
    rows = [f"| {name} | {value:.4g} |" for name, value in metrics.items()]
    return _section("Metrics", rows, ["| metric | value |", "|---|---|"])


def _examples(title: str, examples: Sequence[Example], themes: Sequence[str]) -> list[str]:
    rows = [
        f"| {example.track.replace('|', '¦')} | {_cell(example.decided, themes)} | {_cell(example.expected, themes)} |"
        for example in examples
    ]
    header = ["Themes are in italics.", "", "| track | the model | its teacher |", "|---|---|---|"]
    return _section(title, rows, header)


def _cell(tags: Sequence[str], themes: Sequence[str]) -> str:
    """Tags in a cell of a table, themes in italics; a dash if there are none."""
    return ", ".join(f"*{tag}*" if tag in themes else tag for tag in tags) or "–"


def _deeper(markdown: str) -> str:
    """Markdown with every heading one level deeper."""
    parts = f"\n{markdown}".split("\n```")  # every second part is code
    parts[::2] = [re.sub(r"^(?=#{1,5} )", "#", part, flags=re.MULTILINE) for part in parts[::2]]
    return "\n```".join(parts)[1:]
