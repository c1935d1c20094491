"""The commands about datasets: download, check, audit, stats.

In: names, indexes, folders of audio. Out: music, tables, JSON lines, pictures.
Knows nothing of: how a dataset is downloaded, checked or counted.
"""

from collections import Counter
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, progress
from moodfield.errors import MoodfieldError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    from moodfield.datasets.duplicates import DuplicateGroup
    from moodfield.datasets.mtg_jamendo import Split
    from moodfield.datasets.statistics import SplitStatistics

Indexes = Annotated[list[Path], typer.Argument(help="TSVs in the form of MTG-Jamendo", show_default=False)]
Audio = Annotated[Path, typer.Option(help="the folder that the paths in the TSVs are below, or mirdata's data_home")]
Tags = Annotated[Path | None, typer.Option(help="tags in their order; else those of the TSVs")]
Sums = Annotated[Path | None, typer.Option(help="a list of the tracks' SHA-256: …_sha256_tracks.txt")]
Plot = Annotated[Path | None, typer.Option(help="draw which tags go together: tags.png")]


def download(
    dataset: Annotated[str, typer.Argument(help="moodtheme: the mood/theme subset of MTG-Jamendo")],
    *,
    to: Annotated[Path, typer.Option(help="the folder of the music; an unfinished one goes on")],
    kind: Annotated[str, typer.Option(help="audio-low: mono, about 46 GB; audio: 320 kbit/s, 152 GB")] = "audio-low",
    parts: Annotated[int | None, typer.Option(min=1, help="only the first so many of the 100 tars")] = None,
    mirrors: Annotated[list[str] | None, typer.Option("--mirror", help="mtg-fast, mtg, or an address; several")] = None,
    lists: Annotated[Path | None, typer.Option(help="a clone of the dataset's repository; else it is asked")] = None,
    keep_tars: Annotated[bool, typer.Option("--keep-tars", help="keep tars that were unpacked")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="tars under way at a time")] = 4,
    as_json: console.AsJson = False,
) -> None:
    """Download a dataset, check every byte of it, and unpack it; what is complete stays, also after Ctrl-C."""
    from moodfield import errors
    from moodfield.datasets import mtg_jamendo_download

    try:
        errors.get_or_suggest({"moodtheme": mtg_jamendo_download}, dataset, what="dataset to download")
        form = errors.get_or_suggest(
            {each.value: each for each in mtg_jamendo_download.AudioQuality}, kind, what="kind of audio"
        )
    except UnknownNameError as error:
        raise UsageError(str(error)) from error
    done: list[int | MoodfieldError] = []
    with progress.Tars() as bars:
        coming = mtg_jamendo_download.fetch(
            to, quality=form, n_tars=parts, lists=lists, mirrors=mirrors or tuple(mtg_jamendo_download.MIRRORS),
            jobs=jobs, keep_tars=keep_tars, progress=bars.told,
        )  # fmt: skip
        for tar, result in coming:
            bars.over(tar)
            done.append(result)
            if as_json:
                came = {"error": str(result)} if isinstance(result, MoodfieldError) else {"files": result}
                console.result_json({"tar": tar, **came})
            elif isinstance(result, MoodfieldError):
                console.say(str(result))
            else:
                console.result(f"{tar}  {result} files")
    failed = sum(isinstance(result, MoodfieldError) for result in done)
    files = sum(result for result in done if not isinstance(result, MoodfieldError))
    again = f"; {failed} of {len(done)} tars failed, the same command tries again" if failed else ""
    console.say(f"{files} files are in {to}{again}")
    if failed:
        raise typer.Exit(console.SOME_FAILED)


def check(
    indexes: Indexes,
    *,
    audio: Audio,
    tags: Tags = None,
    sums: Sums = None,
    quick: Annotated[bool, typer.Option("--quick", help="do not decode: no durations, no damaged files")] = False,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="seconds by which a duration may be wrong; 1 by itself")
    ] = None,
    jobs: console.Jobs = 0,
    as_json: console.AsJson = False,
) -> None:
    """List all faults of a dataset: lines, tags, missing and unreadable files, durations, checksums."""
    from moodfield import parallel
    from moodfield.datasets import mtg_jamendo, validation

    if quick and tolerance is not None:
        raise UsageError("--quick measures no durations, so it has no use for --tolerance; leave one of them out")
    vocabulary = mtg_jamendo.read_vocabulary(tags) if tags else None
    listed = mtg_jamendo.read_checksums(sums) if sums else None
    tracks, faults = validation.read_indexes(indexes)
    kinds: Counter[str] = Counter()
    bad = set()
    checked = validation.validate(
        tracks, audio, vocabulary=vocabulary, checksums=listed, decode=not quick,
        tolerance=1.0 if tolerance is None else tolerance,
        jobs=jobs or parallel.default_jobs(len(tracks)),
    )  # fmt: skip
    with progress.Tracks("tracks", len(tracks)) as bar:
        for track, found in chain([(None, faults)], checked):
            for fault in found:
                if not kinds and not as_json:
                    console.result(_line("fault", "track", "what"))
                kinds[fault.kind] += 1
                bad.add(fault.path)
                if as_json:
                    console.result_json(fault.to_dict())
                else:
                    console.result(_line(fault.kind, fault.track, fault.message))
            if track:
                bar.one()
    if not kinds:
        console.say(f"nothing is wrong with {len(tracks)} tracks")
        return
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    console.say(f"{kinds.total()} faults of {len(bad)} files, in {len(tracks)} tracks: {counted}")
    raise typer.Exit(console.SOME_FAILED)


def audit(
    indexes: Indexes,
    *,
    sums: Sums = None,
    audio: Annotated[Path | None, typer.Option(help="without --sums: the folder whose files are compared")] = None,
    tags: Tags = None,
    everything: Annotated[bool, typer.Option("--all", help="show every group, not only those across splits")] = False,
    plot: Plot = None,
    jobs: console.Jobs = 0,
    as_json: console.AsJson = False,
) -> None:
    """Find tracks with the same audio within and across splits, with other tags too, and tags that are missing."""
    from moodfield.datasets import duplicates, mtg_jamendo, statistics

    if bool(sums) == bool(audio):
        raise UsageError("name either a list of checksums with --sums, or the music with --audio")
    if sums and jobs:
        raise UsageError("--jobs is for files that are read with --audio; leave it out beside --sums")
    _check_plot(plot, inputs=[*indexes, tags, sums])
    splits = mtg_jamendo.read_splits(indexes, vocabulary=mtg_jamendo.read_vocabulary(tags) if tags else None)
    listed = mtg_jamendo.read_checksums(sums) if sums else _digests(splits, audio, jobs) if audio else {}
    groups = duplicates.find_duplicates(splits, listed)
    if as_json:
        for group in groups:
            console.result_json(group.to_dict())
    else:
        counted = {name: statistics.statistics(split) for name, split in splits.items()}
        terminal = console.terminal(stderr=False)
        terminal.print(_of_splits(counted), soft_wrap=False)
        for name, each in counted.items():
            if absent := [tag for tag, count in each.tags.items() if not count]:
                terminal.print(
                    f"no track of {console.plain(name)} has {console.plain(', '.join(absent))}", highlight=False
                )
        terminal.print()
        if shown := [group for group in groups if everything or group.across_splits]:
            terminal.print(_of_twins(shown), soft_wrap=False)
            terminal.print()
        for words in _summary(groups, splits, listed):
            terminal.print(console.plain(words), highlight=False)
    _plot(plot, splits)


def stats(indexes: Indexes, *, tags: Tags = None, plot: Plot = None, as_json: console.AsJson = False) -> None:
    """Count what is in a dataset: tracks, hours, tags, and tags that go together."""
    from moodfield.datasets import mtg_jamendo, statistics

    _check_plot(plot, inputs=[*indexes, tags])
    splits = mtg_jamendo.read_splits(indexes, vocabulary=mtg_jamendo.read_vocabulary(tags) if tags else None)
    counted = {name: statistics.statistics(split) for name, split in splits.items()}
    if as_json:
        for name, each in counted.items():
            console.result_json({"split": name, **each.to_dict()})
    else:
        terminal = console.terminal(stderr=False)
        terminal.print(_of_splits(counted), soft_wrap=False)
        terminal.print()
        terminal.print(_of_tags(counted), soft_wrap=False)
    _plot(plot, splits)


def _line(kind: str, track: str, words: str) -> str:
    """A fault as a line of the table."""
    return f"{kind:<10}  {track or '–':<16}  {words}"


def _digests(splits: "Mapping[str, Split]", audio: Path, jobs: int) -> dict[str, str]:
    """The checksums of the music itself; what cannot be read is said and left out."""
    from moodfield import parallel
    from moodfield.datasets import duplicates

    tracks = [track for split in splits.values() for track in split.tracks]
    found: dict[str, str] = {}
    with progress.Tracks("checksums", len(tracks)) as bar:
        for track, result in duplicates.compute_checksums(
            tracks, audio, jobs=jobs or parallel.default_jobs(len(tracks), per_job=100)
        ):
            bar.one()
            if isinstance(result, MoodfieldError):
                console.say(f"left out: {result}")
            else:
                found[track.path] = result
    return found


def _summary(
    groups: "Sequence[DuplicateGroup]", splits: "Mapping[str, Split]", sums: "Mapping[str, str]"
) -> "Iterator[str]":
    """What the groups come to, in sentences."""
    from moodfield.datasets import duplicates

    if not groups:
        yield f"no two of {sum(len(split.tracks) for split in splits.values())} tracks have the same audio"
        return
    tracks, differ = sum(len(group.members) for group in groups), sum(group.tags_differ for group in groups)
    across = sum(group.across_splits for group in groups)
    within = Counter(group.members[0][0] for group in groups if not group.across_splits)
    yield f"{len(groups)} groups, {tracks} tracks: the same audio, byte for byte; {differ} groups have different tags"
    yield f"within splits: {', '.join(f'{within[name]} in {name}' for name in splits)}; across: {across}"
    listed = duplicates.find_duplicate_paths(sums)
    if (files := sum(map(len, listed))) != tracks:
        yield f"in the whole list of checksums: {len(listed)} groups, {files} files"
    for one, other in combinations(splits, 2):
        learned, judged = ([track.path for track in splits[name].tracks] for name in (one, other))
        if rows := duplicates.find_leaks(learned, judged, sums):
            words = "track of {} is" if len(rows) == 1 else "tracks of {} are"
            yield f"{len(rows)} {words.format(other)} in {one}, too: {', '.join(judged[row] for row in rows[:10])}"


def _of_twins(groups: "Sequence[DuplicateGroup]") -> "Table":
    """A block of rows for every group."""
    table = console.table("same audio", "in", "tags", words=3)
    for number, group in enumerate(groups):
        if number:
            table.add_row()
        for split, track in group.members:
            table.add_row(console.plain(track.path), console.plain(split), console.plain(", ".join(track.tags)))
    return table


def _of_splits(counted: "Mapping[str, SplitStatistics]") -> "Table":
    """A row for every split."""
    table = console.table("split", "tracks", "hours", "longest", "tags a track", "without tags", words=1)
    for name, each in counted.items():
        minutes, seconds = divmod(round(each.longest), 60)
        table.add_row(
            console.plain(name), f"{each.tracks:,}", f"{each.seconds / 3600:,.1f}", f"{minutes}:{seconds:02}",
            f"{each.tags_per_track:.2f}", f"{each.untagged:,}",
        )  # fmt: skip
    return table


def _of_tags(counted: "Mapping[str, SplitStatistics]") -> "Table":
    """A row for every tag, the most frequent first."""
    several = len(counted) > 1
    tracks = sum(each.tracks for each in counted.values())
    of_all = Counter[str]()
    for each in counted.values():
        of_all.update(each.tags)
    table = console.table("tag", *map(console.plain, counted), *(["all"] if several else []), "share", words=1)
    for tag, count in of_all.most_common():
        numbers = [each.tags[tag] for each in counted.values()] + ([count] if several else [])
        table.add_row(console.plain(tag), *(f"{number:,}" for number in numbers), f"{100 * count / tracks:.1f} %")
    return table


def _check_plot(plot: Path | None, *, inputs: "Sequence[Path | None]") -> None:
    """Refuse a picture that must not be written before anything is computed for it."""
    if plot:
        from moodfield.plots import figures

        figures.check(plot, inputs=[path for path in inputs if path])


def _plot(plot: Path | None, splits: "Mapping[str, Split]") -> None:
    """Draw which tags go together in all splits, if a picture is wanted."""
    if plot:
        from moodfield.datasets import statistics
        from moodfield.plots import cooccurrence

        counts = statistics.cooccurrence(*(split.truth for split in splits.values()))
        vocabulary = next(iter(splits.values())).vocabulary
        cooccurrence.draw(plot, counts, vocabulary, tracks=sum(len(split.tracks) for split in splits.values()))
        console.say(f"the picture is {plot}")
