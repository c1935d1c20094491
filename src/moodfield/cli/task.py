"""The commands about submissions: scored, compared, made, checked, combined.

In: predictions, truth, models. Out: tables or JSON, and submissions.
Knows nothing of: how anything is measured.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moodfield.cli import desk, progress
from moodfield.errors import BadConfig, MoodfieldError

if TYPE_CHECKING:
    from moodfield.jamendo import Split, Track
    from moodfield.mediaeval import Comparison, Score
    from moodfield.metrics import AnyArray
    from moodfield.resampling import Difference
    from moodfield.submissions import Rows, Submission


class Fill(StrEnum):
    """What stands for a track that could not be heard."""

    MEAN = "mean"
    ZEROS = "zeros"


class Of(StrEnum):
    """What is averaged."""

    SCORES = "scores"
    LOGITS = "logits"
    RANKS = "ranks"


Place = Annotated[str, typer.Argument(help="a submission's folder, or predictions as .npy", show_default=False)]
TruthFile = Annotated[Path, typer.Option("--truth", "--index", help="truth: a TSV like MTG-Jamendo's, or .npy")]
Index = Annotated[Path, typer.Option(help="the tracks: a TSV in the form of MTG-Jamendo")]
Audio = Annotated[Path, typer.Option(help="the folder that the paths in the TSV are below")]
TagList = Annotated[Path | None, typer.Option("--tags", help="the tags in their order, one a line")]
LeaveOut = Annotated[Path | None, typer.Option(help="rows of tracks to leave out, from 0: text, one a line, or .npy")]
Learned = Annotated[
    list[Path] | None, typer.Option(help="instead: TSVs whose tracks were learned from; the same audio is left out")
]
Sums = Annotated[Path | None, typer.Option(help="with --learned: a list of the tracks' SHA-256")]
Intervals = Annotated[int, typer.Option(min=0, help="resamples for 95 % intervals; 0: none")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the resamples")]
PerTag = Annotated[bool, typer.Option("--per-tag", help="a row for every tag too (always in JSON)")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object instead of a table, with every digit")]
FillIn = Annotated[Fill | None, typer.Option(help="what stands for tracks that cannot be heard; else they are refused")]


def evaluate(
    place: Annotated[str | None, typer.Argument(help="a submission's folder, or predictions as .npy")] = None,
    *,
    truth: TruthFile,
    predictions: Annotated[Path | None, typer.Option(help="instead of a folder: scores, tracks × tags, .npy")] = None,
    decisions: Annotated[Path | None, typer.Option(help="decisions to go with them, .npy")] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="decide anew: by a thresholds.txt, or tuned by `f` or `official`")
    ] = None,
    tune_truth: Annotated[Path | None, typer.Option(help="tune on this truth, of validation, …")] = None,
    tune_predictions: Annotated[Path | None, typer.Option(help="… and these predictions for it")] = None,
    model: desk.Models = None,
    audio: Annotated[Path | None, typer.Option(help="with --model: the folder of the music of the TSV")] = None,
    keep: Annotated[Path | None, typer.Option(help="with --model: where scores are kept: scores.jsonl")] = None,
    tags: TagList = None,
    leave_out: LeaveOut = None,
    learned: Learned = None,
    sums: Sums = None,
    intervals: Intervals = 1_000,
    seed: Seed = 0,
    per_tag: PerTag = False,
    as_json: AsJson = False,
    jobs: desk.Jobs = 0,
) -> None:
    """Score predictions by the official numbers, overall and per tag, with intervals."""
    from moodfield import mediaeval, submissions

    if len([each for each in (place, predictions, model) if each]) != 1:
        raise typer.BadParameter("name one of: a submission, --predictions, or --model")
    names = _names(tags)
    if model:
        if audio is None or truth.suffix == ".npy":
            raise typer.BadParameter("--model wants an index of tracks as --truth, and their music as --audio")
        given, split = _heard(model, truth, audio, names, kept=keep, fill=None, jobs=jobs)
        known, names = split.truth, split.vocabulary
    else:
        given = submissions.read(str(place or predictions))
        known, names = mediaeval.read_truth(truth, vocabulary=names)
    if decisions:
        given = replace(given, decisions=submissions.read_array(decisions))
    if thresholds or tune_truth:
        given = _decided(given, thresholds or "f", known, names, tune_truth, tune_predictions)
    rows = _left_out(truth, leave_out, learned, sums)
    found = mediaeval.score(known, given, vocabulary=names, leave_out=rows, resamples=intervals, seed=seed)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        _show(found, given.name, per_tag=per_tag)


def _left_out(truth: Path, leave_out: Path | None, learned: list[Path] | None, sums: Path | None) -> "Rows | None":
    """The rows that are not fair, if any are named or can be found."""
    from moodfield import mediaeval, submissions

    if learned is None and sums is None:
        return submissions.read_rows(leave_out) if leave_out else None
    if not learned or not sums or leave_out or truth.suffix == ".npy":
        raise typer.BadParameter("--learned and --sums go together, with a TSV as --truth and without --leave-out")
    rows = mediaeval.leaked(truth, learned, sums)
    desk.say(f"{len(rows)} leaks: tracks of {truth} whose audio was also learned from")
    return rows


def compare(
    one: Place,
    other: Place,
    *,
    truth: TruthFile,
    tags: TagList = None,
    leave_out: LeaveOut = None,
    learned: Learned = None,
    sums: Sums = None,
    intervals: Annotated[int, typer.Option(min=1, help="resamples")] = 1_000,
    seed: Seed = 0,
    per_tag: PerTag = False,
    as_json: AsJson = False,
) -> None:
    """Test whether one submission is better than another, on the same tracks."""
    from moodfield import mediaeval, submissions

    known, names = mediaeval.read_truth(truth, vocabulary=_names(tags))
    rows = _left_out(truth, leave_out, learned, sums)
    both = submissions.read(one), submissions.read(other)
    found = mediaeval.compare(known, *both, vocabulary=names, leave_out=rows, resamples=intervals, seed=seed)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        _show_beside(found, one, other, per_tag=per_tag)


def submit(
    *,
    index: Index,
    audio: Audio,
    to: Annotated[Path, typer.Option(help="the folder of the submission; what was heard is kept beside it")],
    model: desk.Models = None,
    tags: TagList = None,
    thresholds: Annotated[Path | None, typer.Option(help="a thresholds.txt instead of the model's own")] = None,
    fill: FillIn = None,
    jobs: desk.Jobs = 0,
) -> None:
    """Hear all tracks of an index and leave a submission: predictions, decisions, thresholds."""
    from moodfield import submissions

    kept = to.with_name(f"{to.name}.scores.jsonl")
    made, split = _heard(model, index, audio, _names(tags), kept=kept, fill=fill, jobs=jobs)
    if thresholds:
        limits = submissions.limits(submissions.read_thresholds(thresholds), split.vocabulary)
        made = submissions.make(made.predictions, limits, split.vocabulary)
    submissions.write(made, to, vocabulary=split.vocabulary)
    kept.unlink(missing_ok=True)
    typer.echo(f"the submission is {to}; try: moodfield submission check {to} --index {index}")


def check(
    place: Place,
    *,
    truth: Annotated[
        Path | None, typer.Option("--truth", "--index", help="the tracks: a TSV, or truth as .npy")
    ] = None,
    tags: TagList = None,
    as_json: AsJson = False,
) -> None:
    """Judge a new submission: everything that is wrong with its form, in words."""
    from moodfield import jamendo, mediaeval, submissions
    from moodfield.tags import MOODS_AND_THEMES

    given = submissions.read(place)
    names, known = _names(tags), None
    tracks: Sequence[Track] = ()
    if truth and truth.suffix == ".npy":
        known, names = mediaeval.read_truth(truth, vocabulary=names)
    elif truth:
        split = jamendo.read(truth, vocabulary=names)
        known, names, tracks = split.truth, split.vocabulary, split.tracks
    told = known if known is not None and known.any() else None  # an index may leave its tags to the task
    faults = submissions.check(given, vocabulary=names or MOODS_AND_THEMES, tracks=tracks, truth=told)
    if as_json:
        typer.echo(json.dumps({"submission": place, "faults": faults}, ensure_ascii=False))
    else:
        for fault in faults or ["in order"]:
            typer.echo(f"{desk.printable(place)}: {desk.printable(fault)}")
    if faults:
        raise typer.Exit(1)


def ensemble(
    members: Annotated[list[str], typer.Argument(help="submissions, or predictions as .npy", show_default=False)],
    *,
    to: Annotated[Path, typer.Option(help="the predictions, x.npy, or the folder of a submission")],
    of: Annotated[Of, typer.Option(help="what is averaged")] = Of.SCORES,
    weights: Annotated[str | None, typer.Option(help="one for every member: 2,1,1")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="weights by greedy selection on validation")] = False,
    truth: Annotated[Path | None, typer.Option("--validation-truth", help="of validation: a TSV, or .npy")] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="predictions for it, once for every member, in their order")
    ] = None,
    tags: TagList = None,
) -> None:
    """Make one submission of several: the mean of their predictions, with thresholds from validation."""
    from moodfield import ensemble as room
    from moodfield import mediaeval, metrics, submissions

    folder = to.suffix != ".npy"
    if weights and greedy:
        raise BadConfig(f"--weights {weights} are given and --greedy chooses others; leave one of them out")
    if (folder or greedy) and (truth is None or len(validation or ()) != len(members)):
        raise BadConfig(
            "weights and thresholds are chosen on validation: give --validation-truth, and --validation once for every "
            "member; or only average predictions, --to x.npy"
        )
    given = [submissions.read(member).predictions for member in members]
    shares: Sequence[float] | None = _numbers(weights, len(members)) if weights else None
    if truth is not None and validation:
        known, names = mediaeval.read_truth(truth, vocabulary=_names(tags))
        judged = [submissions.read(each).predictions for each in validation]
        if greedy:
            chosen = room.greedy(known, judged, of=of.value)
            shares = chosen.weights
        there = room.mean(judged, weights=shares, of=of.value)
    together = room.mean(given, weights=shares, of=of.value)
    if folder:
        names = names or tuple(map(str, range(together.shape[1])))
        submissions.write(submissions.make(together, metrics.thresholds(known, there), names), to, vocabulary=names)
    else:
        submissions.write_array(to, together)
    for member, share in zip(members, shares or [1 / len(members)] * len(members), strict=True):
        typer.echo(f"{share:.3f}  {desk.printable(member)}")
    if truth is not None and validation:
        typer.echo(
            f"validation PR-AUC-macro {metrics.evaluate(known, there).macro['PR-AUC']:.4f}, for which all was chosen"
        )
    typer.echo(f"their mean is {to}")


def _heard(
    model: Sequence[str] | None,
    index: Path,
    audio: Path,
    names: Sequence[str] | None,
    *,
    kept: Path | None,
    fill: Fill | None,
    jobs: int,
) -> "tuple[Submission, Split]":
    """A submission for an index, heard by a tagger, with the thresholds of its models."""
    from moodfield import fleet, jamendo, mediaeval, submissions, tagger

    asked = tagger.load(*(model or ()))
    split = jamendo.read(index, vocabulary=names or asked.vocabulary)

    def hear(tracks: "Sequence[Track]") -> "Iterator[tuple[Track, AnyArray | MoodfieldError]]":
        files = [jamendo.locate(audio, track.path) for track in tracks]
        results = tagger.tag_files(files, *(model or ()), jobs=jobs or fleet.cores()) if files else ()
        for track, (_, result) in zip(tracks, results, strict=True):
            yield track, result if isinstance(result, MoodfieldError) else result.scores

    with progress.Tracks("tracks", len(split.tracks)) as bar:
        scores = mediaeval.gather(
            split.tracks, hear, said=asked.vocabulary, vocabulary=split.vocabulary, kept=kept, model=asked.digest,
            music=str(audio.resolve()), fill=fill.value if fill else None, heard=lambda *_: bar.one(),
        )  # fmt: skip
    own = dict(zip(asked.vocabulary, asked.thresholds.tolist(), strict=True))
    made = submissions.make(scores, submissions.limits(own, split.vocabulary), split.vocabulary)
    return replace(made, name=" + ".join(model or ["the bundled model"])), split


def _decided(
    given: "Submission",
    how: str,
    truth: "AnyArray",
    names: Sequence[str] | None,
    tune_truth: Path | None,
    tune_predictions: Path | None,
) -> "Submission":
    """A submission with other decisions: by thresholds in a file, or tuned on validation, or on the truth itself."""
    from moodfield import mediaeval, metrics, submissions

    names = names or tuple(map(str, range(given.predictions.shape[1])))
    criterion: Literal["f", "official"] = "official" if how == "official" else "f"
    if how not in ("f", "official"):
        limits = submissions.limits(submissions.read_thresholds(how), names)
    elif tune_truth and tune_predictions:
        known, _ = mediaeval.read_truth(tune_truth, vocabulary=names)
        limits = metrics.thresholds(known, submissions.read_array(tune_predictions), criterion=criterion)
    elif tune_truth or tune_predictions:
        raise typer.BadParameter("thresholds are tuned on --tune-truth and --tune-predictions; give both")
    else:
        limits = metrics.thresholds(truth, given.predictions, criterion=criterion)
    return replace(submissions.make(given.predictions, limits, names), name=given.name)


def _names(path: Path | None) -> tuple[str, ...] | None:
    from moodfield import jamendo

    return jamendo.read_vocabulary(path) if path else None


def _numbers(text: str, count: int) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise BadConfig(f"--weights {text} are not {count} numbers with commas between them, such as 2,1") from error


def _show(score: "Score", name: str, *, per_tag: bool) -> None:
    """The official numbers as a table, and what is to be known of them."""
    console = desk.console(stderr=False)
    parts = {f"{score.tracks:,} tracks": score} | ({f"{score.rest.tracks:,} tracks": score.rest} if score.rest else {})
    console.print(f"[bold]{desk.plain(name)}[/bold]: {len(score.report.tags)} tags", highlight=False)
    for what, part in parts.items():
        report, sure = part.report, part.intervals
        console.print()
        ends = ["95 % interval"] if sure else []
        table = desk.table(what, "macro", *ends, "micro", *ends, words=1)
        for number in report.micro:
            cells: list[str] = []
            for mean, values in (("macro", report.macro), ("micro", report.micro)):
                cells.append(_four(values[number]))
                if sure:
                    cells.append(_span(sure[f"{number}-{mean}"]))
            table.add_row(number, *cells)
        console.print(table)
    if score.flattered:
        console.print(
            f"\nThe decisions for {len(score.tuned)} of {score.tunable} tags are those of thresholds tuned on "
            "this very truth: F, precision and recall flatter.",
            highlight=False,
        )
    if score.report.undefined:
        console.print(f"\nWithout positives, and in no macro mean: {desk.plain(', '.join(score.report.undefined))}")
    if score.intervals and score.rare:
        console.print(f"\nOn too few tracks for intervals of their own: {desk.plain(', '.join(score.rare))}")
    if per_tag:
        console.print()
        table = desk.table("tag", *score.report.per_tag, words=1)
        for column, tag in enumerate(score.report.tags):
            table.add_row(desk.plain(tag), *(_four(values[column]) for values in score.report.per_tag.values()))
        console.print(table)


def _show_beside(found: "Comparison", one: str, other: str, *, per_tag: bool) -> None:
    """Both systems' numbers as a table, and a sentence on the number that counts."""
    console = desk.console(stderr=False)
    console.print(f"1: {desk.plain(one)}\n2: {desk.plain(other)}\n", highlight=False)
    table = desk.table("", "1", "2", "1 − 2", "95 % interval", "p", words=1)
    a, b = found.one.to_dict(), found.other.to_dict()
    for name, each in found.differences.items():
        table.add_row(name, _four(a[name]), _four(b[name]), *_ahead(each))
    console.print(table)
    if per_tag:
        console.print()
        table = desk.table("PR-AUC", "1", "2", "1 − 2", "95 % interval", "p", words=1)
        values = found.one.per_tag["PR-AUC"], found.other.per_tag["PR-AUC"], found.tag_differences["PR-AUC"]
        for tag, first, second, each in zip(found.one.tags, *values, strict=True):
            table.add_row(desk.plain(tag), _four(first), _four(second), *_ahead(each))
        console.print(table)
        tested = sum(not math.isnan(each.p) for each in found.tag_differences["PR-AUC"])
        console.print(f"\nOf {tested} tags, about {tested / 20:.0f} have p < 0.05 by chance.")
        if found.rare:
            console.print(f"On too few tracks for an interval and p: {desk.plain(', '.join(found.rare))}")
    first = found.differences["PR-AUC-macro"]
    better = "1 is ahead of 2" if first.value > 0 else "2 is ahead of 1"
    better = better if first.p < 0.05 else "1 and 2 cannot be told apart"
    better = "nothing can be told: there are too few tracks" if math.isnan(first.p) else better
    console.print(f"\nBy macro PR-AUC, {better}.", highlight=False)


def _ahead(each: "Difference") -> tuple[str, str, str]:
    if math.isnan(each.p):
        return "–" if math.isnan(each.value) else f"{each.value:+.4f}", "–", "–"
    return f"{each.value:+.4f}", f"{each.low:+.4f} … {each.high:+.4f}", f"{each.p:.3f}"


def _span(ends: Iterable[float]) -> str:
    low, high = ends
    return "–" if math.isnan(low) else f"{low:.4f} … {high:.4f}"


def _four(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
