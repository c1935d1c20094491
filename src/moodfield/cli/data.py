"""The commands about datasets: download, validate, duplicates, stats."""

from collections import Counter
from dataclasses import asdict
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

Indexes = Annotated[list[Path], typer.Argument(metavar="TSV...", help="TSVs like MTG-Jamendo's", show_default=False)]
Checksums = Annotated[Path | None, typer.Option(help="list of the tracks' SHA-256: …_sha256_tracks.txt")]


def download(
    dataset: Annotated[str, typer.Argument(help="moodtheme: the mood/theme subset of MTG-Jamendo")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the music; an unfinished one continues")],
    quality: Annotated[str, typer.Option(help="audio-low: mono, about 46 GB; audio: 320 kbit/s, 152 GB")] = "audio-low",
    parts: Annotated[int | None, typer.Option(min=1, help="only this number of the 100 tars")] = None,
    mirror: Annotated[list[str] | None, typer.Option(help="mtg-fast, mtg, or an address; several in order")] = None,
    index_dir: Annotated[Path | None, typer.Option(help="clone of the dataset's repository, with its lists")] = None,
    keep_tars: Annotated[bool, typer.Option("--keep-tars", help="keep tars after they are unpacked")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="tars downloaded at a time")] = 4,
    as_json: console.AsJson = False,
) -> None:
    """Download a dataset, verify its checksums, and unpack it.

    For example:
        moodfield data download moodtheme -o music/
        moodfield data download moodtheme -o music/ --parts 3
    """
    from moodfield import errors
    from moodfield.datasets import mtg_jamendo_download

    qualities = {quality.value: quality for quality in mtg_jamendo_download.AudioQuality}
    try:
        errors.get_or_suggest({"moodtheme": mtg_jamendo_download}, dataset, what="dataset to download")
        kind = errors.get_or_suggest(qualities, quality, what="audio quality")
    except UnknownNameError as error:
        raise UsageError(str(error)) from error
    counts: list[int | MoodfieldError] = []
    with progress.DownloadProgress() as bars:
        for tar, count in mtg_jamendo_download.fetch(
            output, quality=kind, n_tars=parts, lists=index_dir, mirrors=mirror or tuple(mtg_jamendo_download.MIRRORS),
            jobs=jobs, keep_tars=keep_tars, progress=bars.update,
        ):  # fmt: skip
            bars.remove(tar)
            counts.append(count)
            is_error = isinstance(count, MoodfieldError)
            if as_json:
                console.result_json({"tar": tar, "error": str(count)} if is_error else {"tar": tar, "files": count})
            elif is_error:
                console.message(str(count))
            else:
                console.result(f"{tar}  {count} files")
    unpacked = [count for count in counts if isinstance(count, int)]
    failed = len(counts) - len(unpacked)
    advice = f"; {failed} of {len(counts)} tars failed: run the same command again" if failed else ""
    console.message(f"{sum(unpacked)} files are in {output}{advice}")
    if failed:
        raise typer.Exit(console.SOME_FAILED)


def validate(
    indexes: Indexes,
    *,
    audio: console.Audio,
    tags: console.Tags = None,
    checksums: Checksums = None,
    quick: Annotated[bool, typer.Option("--quick", help="do not decode: no durations, no damaged files")] = False,
    tolerance: Annotated[float | None, typer.Option(min=0, help="allowed error of durations; by default 1 s")] = None,
    jobs: console.Jobs = 0,
    as_json: console.AsJson = False,
) -> None:
    """List the faults of a dataset: its TSVs and its files.

    For example:
        moodfield data validate train.tsv test.tsv --audio music/
    """
    from moodfield.datasets import mtg_jamendo, validation

    if quick and tolerance is not None:
        raise UsageError("--quick measures no durations, so --tolerance would be ignored; leave one of them out")
    vocabulary = console.read_tags(tags)
    sums = mtg_jamendo.read_checksums(checksums) if checksums else None
    tracks, index_faults = validation.read_indexes(indexes)
    kinds: Counter[str] = Counter()
    paths = set()
    results = validation.validate(
        tracks, audio, vocabulary=vocabulary, checksums=sums, decode=not quick,
        tolerance=1.0 if tolerance is None else tolerance, jobs=console.choose_jobs(jobs, len(tracks)),
    )  # fmt: skip
    with progress.FileProgress("tracks", len(tracks)) as bar:
        for track, faults in chain([(None, index_faults)], results):
            for fault in faults:
                if as_json:
                    console.result_json(asdict(fault))
                else:
                    if not kinds:
                        console.result(_format_fault("fault", "track", "message"))
                    console.result(_format_fault(fault.kind, fault.track, fault.message))
                kinds[fault.kind] += 1
                paths.add(fault.path)
            if track:
                bar.advance()
    if not kinds:
        console.message(f"no faults in {len(tracks)} tracks")
        return
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    console.message(f"{kinds.total()} faults in {len(paths)} files, {len(tracks)} tracks: {counts}")
    raise typer.Exit(console.SOME_FAILED)


def duplicates(
    indexes: Indexes,
    *,
    checksums: Checksums = None,
    audio: Annotated[Path | None, typer.Option(help="folder of the files to compare, instead of --checksums")] = None,
    everything: Annotated[bool, typer.Option("--all", help="show every group, not only those across splits")] = False,
    write_leaks: Annotated[Path | None, typer.Option(help="write the last TSV's rows that earlier ones have")] = None,
    jobs: console.Jobs = 0,
    as_json: console.AsJson = False,
) -> None:
    """Find tracks with the same audio, within and across splits.

    For example:
        moodfield data duplicates train.tsv test.tsv --checksums sums.txt
        moodfield data duplicates train.tsv test.tsv --checksums sums.txt --write-leaks rows.txt
        moodfield evaluate mine --truth test.tsv --exclude rows.txt
    """
    from moodfield.datasets import duplicates as finder
    from moodfield.datasets import mtg_jamendo
    from moodfield.evaluation import submissions

    if bool(checksums) == bool(audio):
        raise UsageError("name either a list of checksums with --checksums, or the music with --audio")
    if checksums:
        console.check_unused({"--jobs": jobs}, why="files are read with --audio only")
    if write_leaks:
        if len(indexes) < 2:
            raise UsageError("--write-leaks needs two or more TSVs: those of training first, the evaluated one last")
        if write_leaks.suffix == ".npy":
            raise UsageError(f"--write-leaks {write_leaks}: rows are written as text; name it like rows.txt")
        console.check_output(write_leaks, submissions.read_rows, inputs=[*indexes, checksums])
    splits = mtg_jamendo.read_splits(indexes)
    sums = _compute_digests(splits, audio, jobs) if audio else mtg_jamendo.read_checksums(str(checksums))
    groups = finder.find_duplicates(splits, sums)
    if as_json:
        console.result_json(*(group.to_dict() for group in groups))
    else:
        terminal = console.terminal()
        if shown := [group for group in groups if everything or group.across_splits]:
            terminal.print(_duplicates_table(shown), soft_wrap=False)
            terminal.print()
        for line in _summarize(groups, splits, sums):
            terminal.print(console.escape(line))
    if write_leaks:
        rows = _find_leaks(indexes, checksums, splits, sums)
        console.write_lines(write_leaks, [str(row) for row in rows])
        console.message(f"wrote {write_leaks}: {len(rows)} rows of {indexes[-1]}")


def stats(
    indexes: Indexes,
    *,
    tags: console.Tags = None,
    plot: Annotated[Path | None, typer.Option(help="draw which tags occur together: tags.png")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Count tracks, hours and tags, and draw how tags co-occur."""
    from moodfield.datasets import mtg_jamendo, statistics

    if plot:
        from moodfield.plots import cooccurrence, figures

        figures.check(plot, inputs=[path for path in (*indexes, tags) if path])
    splits = mtg_jamendo.read_splits(indexes, vocabulary=console.read_tags(tags))
    counts = {name: statistics.statistics(split) for name, split in splits.items()}
    if as_json:
        console.result_json(*({"split": name, **split_stats.to_dict()} for name, split_stats in counts.items()))
    else:
        terminal = console.terminal()
        terminal.print(_splits_table(counts), soft_wrap=False)
        terminal.print()
        terminal.print(_tags_table(counts), soft_wrap=False)
    if plot:
        pairs = statistics.cooccurrence(*(split.truth for split in splits.values()))
        vocabulary = next(iter(splits.values())).vocabulary
        cooccurrence.draw(plot, pairs, vocabulary, tracks=sum(len(split.tracks) for split in splits.values()))
        console.message(f"wrote {plot}")


def _format_fault(kind: str, track: str, message: str) -> str:
    """A line of the table of faults."""
    return f"{kind:<10}  {track or '–':<16}  {message}"


def _compute_digests(splits: "Mapping[str, Split]", audio: Path, jobs: int) -> dict[str, str]:
    """The checksums of the files of all tracks, by path; unreadable files are reported and left out."""
    from moodfield.datasets import duplicates

    tracks = [track for split in splits.values() for track in split.tracks]
    jobs = console.choose_jobs(jobs, len(tracks), files_per_job=100)
    digests: dict[str, str] = {}
    with progress.FileProgress("checksums", len(tracks)) as bar:
        for track, digest in duplicates.compute_checksums(tracks, audio, jobs=jobs):
            bar.advance()
            if isinstance(digest, MoodfieldError):
                console.message(f"left out: {digest}")
            else:
                digests[track.path] = digest
    return digests


def _find_leaks(
    indexes: "Sequence[Path]", checksums: Path | None, splits: "Mapping[str, Split]", sums: "Mapping[str, str]"
) -> "Sequence[int]":
    """Rows of the last index whose audio is in an earlier one; a list of checksums is also checked for gaps."""
    from moodfield.datasets import duplicates
    from moodfield.evaluation import mediaeval

    if checksums:
        return mediaeval.find_leaks(indexes[-1], indexes[:-1], checksums).tolist()
    *train, evaluated = ([track.path for track in split.tracks] for split in splits.values())
    return duplicates.find_leaks(chain(*train), evaluated, sums)


def _summarize(groups: "list[DuplicateGroup]", splits: "dict[str, Split]", sums: "dict[str, str]") -> "Iterator[str]":
    """The numbers of groups within and across splits, as sentences."""
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
    for train, evaluated in combinations(splits, 2):
        training, paths = ([track.path for track in splits[name].tracks] for name in (train, evaluated))
        if rows := duplicates.find_leaks(training, paths, sums):
            words = f"track of {evaluated} is" if len(rows) == 1 else f"tracks of {evaluated} are"
            yield f"{len(rows)} {words} also in {train}: {', '.join(paths[row] for row in rows[:10])}"


def _duplicates_table(groups: "Sequence[DuplicateGroup]") -> "Table":
    """A block of rows for every group."""
    table = console.table("same audio", "split", "tags", words=3)
    for number, group in enumerate(groups):
        if number:
            table.add_row()
        for split, track in group.members:
            table.add_row(*map(console.escape, (track.path, split, ", ".join(track.tags))))
    return table


def _splits_table(counts: "Mapping[str, SplitStatistics]") -> "Table":
    """A row for every split."""
    table = console.table("split", "tracks", "hours", "longest", "tags a track", "without tags", words=1)
    for name, stats in counts.items():
        minutes, seconds = divmod(round(stats.longest), 60)
        table.add_row(
            console.escape(name), f"{stats.tracks:,}", f"{stats.seconds / 3600:,.1f}", f"{minutes}:{seconds:02}",
            f"{stats.tags_per_track:.2f}", f"{stats.untagged:,}",
        )  # fmt: skip
    return table


def _tags_table(counts: "Mapping[str, SplitStatistics]") -> "Table":
    """A row for every tag, the most frequent first."""
    several = len(counts) > 1
    tracks = sum(stats.tracks for stats in counts.values())
    totals = Counter[str]()
    for stats in counts.values():
        totals.update(stats.tags)
    table = console.table("tag", *map(console.escape, counts), *(["all"] if several else []), "share", words=1)
    for tag, total in totals.most_common():
        numbers = [stats.tags[tag] for stats in counts.values()] + ([total] if several else [])
        table.add_row(console.escape(tag), *(f"{number:,}" for number in numbers), f"{100 * total / tracks:.1f} %")
    return table
