"""The command that writes moods into files, and undoes it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, decided_tags, filters, progress
from moodfield.cli.written_files import WrittenFiles
from moodfield.errors import MoodfieldError, UsageError
from moodfield.report import text

if TYPE_CHECKING:
    from moodfield.file_tags.fields import Field
    from moodfield.file_tags.plan import Mode, Wanted, WriteConfig
    from moodfield.file_tags.track_tags import LibraryTags
    from moodfield.file_tags.writing import Job, Written

    Item = tuple[Path, "dict[Field, Wanted] | MoodfieldError"]

choice = partial(typer.Option, rich_help_panel="Options for what is written")
complete_player = console.complete("file_tags.fields", "PRESETS")


# More than ten options: those of the panel choose tags.
def write_tags(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="music files and folders", show_default=False)],
    *,
    apply: Annotated[bool, typer.Option("--apply", help="write; without it only the plan is shown")] = False,
    player: Annotated[
        str | None,
        typer.Option("--for", help="navidrome, plex, kodi, rekordbox or picard", autocompletion=complete_player),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace moods that files have")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="add to moods that files have")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="remove moods and themes of the vocabulary")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="undo the last command that wrote these files")] = False,
    include: Annotated[list[str] | None, choice(help="only these tags, such as calm,dark")] = None,
    exclude: Annotated[list[str] | None, choice(help="not these tags")] = None,
    rename: Annotated[list[str] | None, choice(help="another word for a tag: calm=Relaxed")] = None,
    moods_only: Annotated[bool, choice("--moods-only", help="no themes")] = False,
    scores: Annotated[bool, choice("--scores", help="also all scores, in the field MOODFIELD_SCORES")] = False,
    absolute: Annotated[bool, choice("--absolute", help="decide against music in general, not your library")] = False,
    model: filters.LibraryModel = None,
    db: filters.Database = None,
    as_json: console.AsJson = False,
    jobs: console.Jobs = 0,
) -> None:
    """Write the moods and themes of music into its files, so that players show them; nothing without --apply.

    Tracks that your library does not have are scanned first. Moods that a file has already are kept. Every file is
    copied, changed, verified and then replaced at once; --undo restores it exactly.

    For example:
        moodfield write-tags ~/Music
        moodfield write-tags ~/Music --for navidrome --apply
        moodfield write-tags ~/Music --exclude love --rename calm=Relaxed --merge --apply
        moodfield write-tags ~/Music --undo --apply
    """
    from moodfield.file_tags.plan import Mode

    modes = {Mode.OVERWRITE: overwrite, Mode.MERGE: merge, Mode.REMOVE: remove, None: undo}
    chosen = [mode for mode, is_chosen in modes.items() if is_chosen] or [Mode.KEEP]
    if len(chosen) > 1:
        raise UsageError("--overwrite, --merge, --remove and --undo exclude each other; give one of them")
    tags: dict[str, object] = {
        "--include": include,
        "--exclude": exclude,
        "--moods-only": moods_only,
        "--scores": scores,
    }
    tags |= {"--absolute": absolute, "--model": model}
    library = filters.database_path(db)
    with WrittenFiles(library, apply=apply, as_json=as_json, keeps=chosen[0] is Mode.KEEP) as written:
        if chosen[0] is None:
            tags |= {"--for": player, "--rename": rename, "--jobs": jobs > 1}
            console.check_unused(tags, why="--undo restores whole files, one after the other")
            _undo(written, paths)
            return
        songs = _find(paths)
        config = _config(player, chosen[0], rename or [], moods_only=moods_only)
        if chosen[0] is Mode.REMOVE:
            console.check_unused(tags, why="--remove removes all words of the vocabulary")
            config = _removing(config, library)
            items = _removed(songs, config)
        else:
            stored = decided_tags.decide(library, paths, model=model, absolute=absolute, scores=scores, jobs=jobs)
            config = _choose(config, stored, _words(include), _words(exclude))
            items = _wanted(songs, stored, config)
        _write(written, items, config, len(songs), jobs)


def _find(paths: Sequence[Path]) -> list[Path]:
    """The audio files below paths; raises `AudioError` if there are none."""
    from moodfield import audio
    from moodfield.errors import AudioError

    songs = audio.find(paths)
    if not songs:
        raise AudioError("missing", f"no music was found in {', '.join(map(str, paths))}; name audio files or folders")
    return songs


def _config(player: str | None, mode: "Mode", rename: Sequence[str], *, moods_only: bool) -> "WriteConfig":
    """What happens to the values that files have; raises `UsageError`."""
    from moodfield import errors
    from moodfield.file_tags import fields, plan

    preset = errors.get_or_suggest(fields.PRESETS, player, what="player") if player else fields.STANDARD
    return plan.WriteConfig(preset, mode, rename=plan.parse_renames(rename), moods_only=moods_only)


def _choose(
    config: "WriteConfig", stored: "LibraryTags", include: frozenset[str], exclude: frozenset[str]
) -> "WriteConfig":
    """The config with the tags that are written.

    Raises:
        UsageError: A tag is included and excluded.
        UnknownNameError: The model does not know a tag.
    """
    if both := sorted(include & exclude):
        raise UsageError(f"{', '.join(both)} cannot be included and excluded at once; leave one of them out")
    for words in (include, exclude, config.rename or ()):
        stored.decided.columns(tuple(words))
    return replace(config, include=include, exclude=exclude)


def _words(options: Sequence[str] | None) -> frozenset[str]:
    """The words of an option that takes several, separated by commas or given one by one."""
    return frozenset(word.strip() for option in options or () for word in option.split(",") if word.strip())


def _removing(config: "WriteConfig", library: Path) -> "WriteConfig":
    """The config for removing all words that may have been written: of the bundled model, and of the library's.

    Raises:
        UnknownNameError: None of them has a renamed tag.
    """
    from moodfield import errors, tags
    from moodfield.library import database, models

    words = set(tags.MOODS_AND_THEMES)
    if library.is_file():
        with database.read(library) as connection:
            words.update(word for model in models.read(connection) for word in model.vocabulary)
    for name in config.rename or ():
        errors.get_or_suggest(dict.fromkeys(words), name, what="tag")
    return replace(config, vocabulary=frozenset(words))


def _wanted(songs: Iterable[Path], stored: "LibraryTags", config: "WriteConfig") -> "Iterator[Item]":
    """Every file with the values that it should have, or with the reason why it has none."""
    from moodfield.file_tags import plan

    for path in songs:
        try:
            yield path, plan.wanted(stored.read(path), config)
        except MoodfieldError as error:
            yield path, error


def _removed(songs: Iterable[Path], config: "WriteConfig") -> "Iterator[Item]":
    from moodfield.file_tags import plan

    return ((path, plan.wanted(plan.TrackTags(), config)) for path in songs)


def _write(written: WrittenFiles, items: "Iterable[Item]", config: "WriteConfig", count: int, jobs: int) -> None:
    """Write the files, or plan it."""
    from moodfield import parallel
    from moodfield.file_tags.writing import Job

    job = Job(config, written.journal if written.apply else None, written.start())
    jobs = console.choose_jobs(jobs, count, files_per_job=20) if written.apply else 1
    items = _clean_folders(items) if written.apply else items
    with progress.FileProgress("files", count) as bar:
        for (path, _), result in parallel.map(partial(_write_item, job), items, jobs=jobs):
            written.add(path, result, bar)


def _clean_folders(items: "Iterable[Item]") -> "Iterator[Item]":
    """The items; what killed processes have left in a folder is removed before the first of its files."""
    from moodfield.file_tags import writing

    cleaned: set[Path] = set()
    for item in items:
        folder = item[0].resolve().parent
        if folder not in cleaned:
            cleaned.add(folder)
            writing.remove_partial_files(item[0])
        yield item


def _write_item(job: "Job", item: "Item") -> "Written":
    from moodfield.file_tags import writing

    path, values = item
    if isinstance(values, MoodfieldError):
        raise values
    return writing.write_file(path, values, job)


def _undo(written: WrittenFiles, paths: Sequence[Path]) -> None:
    """Undo the last command that wrote files below the paths, or plan it."""
    from moodfield.file_tags import journal, track_tags, writing

    written.start()
    with ExitStack() as stack:
        exists = written.journal.is_file()
        connection = stack.enter_context(journal.connect(written.journal)) if exists else None
        run = journal.last_run(connection, paths) if connection else None
        if connection is None or run is None:
            raise MoodfieldError(f"{written.journal} has nothing to undo for {', '.join(map(str, paths))}")
        when = datetime.fromtimestamp(run.time).astimezone().isoformat(" ", "minutes")[:16]
        rest = f"; {text.count(run.earlier, 'earlier command')} can be undone after it" if run.earlier else ""
        console.message(f"undoing what was written on {when}{rest}")
        bar = stack.enter_context(progress.FileProgress("files", len(run.numbers)))
        for number in run.numbers:
            entry = journal.read(connection, number)
            if not entry.path.exists() and (moved := track_tags.find_moved(written.library, entry.after)):
                entry = replace(entry, path=moved)
            try:
                result: Written | MoodfieldError = writing.undo_file(entry, apply=written.apply)
            except MoodfieldError as error:
                result = error
            written.add(_relative(entry.path), result, bar)
            if written.apply and isinstance(result, MoodfieldError):
                journal.note_failed(connection, number)
            elif written.apply:
                journal.remove(connection, number)


def _relative(path: Path) -> Path:
    """The path as one would type it: relative to this folder, if it lies in it."""
    folder = Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path
