"""The folder of a run: its recipe and data, and the lock of the process that works in it."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from moodfield import errors, files
from moodfield.errors import ConfigError, OutputError, RunError
from moodfield.training.recipe import Recipe

RECIPE, VOCABULARY, TRUTH, DATASET = "recipe.json", "vocabulary.json", "truth.json", "dataset.json"
"""files that identify a run: settings, tags, a digest of the truth, and one of all training data"""
INITIAL_WEIGHTS, RANDOM = "initial-weights.json", "random"
"""file with a digest of the weights that training started from, and its content if these were random"""
LOCK = ".lock"
IGNORED = frozenset({LOCK, ".DS_Store"})
"""files that do not make a folder belong to something else: our lock, and what macOS creates everywhere"""
REMEDY = "the run cannot go on; give another folder, or remove this one"
"""what to do about a damaged file of a run"""

_LOCKED: ContextVar[frozenset[Path]] = ContextVar("locked", default=frozenset())
"""folders that this process has locked, in calls that are active"""


def check_unused(folder: Path, mark: str, *, kind: str, cache: Path | None = None) -> None:
    """Check that a folder may be used: it is missing, empty, or has the file `mark`.

    It may also hold what is left of a process that was killed before it had written that file, such as the folder of
    its `cache`.

    Args:
        folder: the folder.
        mark: name of the file by which a folder of ours is recognised.
        kind: what the folder should be, for the message.
        cache: a cache that may lie below the folder.

    Raises:
        OutputError: the folder belongs to something else.
    """
    if (folder / mark).is_file() or not folder.is_dir():
        return
    unfinished = re.compile(re.escape(mark) + r"\.[0-9a-f]{16}\.part")
    ours = IGNORED | {path.name for path in ([cache, *cache.parents] if cache else ()) if path.parent == folder}
    names = {path.name for path in folder.iterdir()} - ours
    foreign = sorted(name for name in names if not unfinished.fullmatch(name))
    if foreign:
        listing = errors.join_some(map(repr, foreign))
        raise OutputError(f"{folder} is not {kind}: it has no {mark}, but holds {listing}; give a new or empty folder")


@contextmanager
def lock(
    folder: str | Path, mark: str = RECIPE, *, kind: str = "a run", enabled: bool = True, cache: Path | None = None
) -> Iterator[None]:
    """Lock a folder, so that no other process works in it; parameters are those of `check_unused`.

    A call inside another one for the same folder shares its lock. If it is not `enabled`, nothing happens: of several
    processes that train together the first one has the lock for all.

    Raises:
        OutputError: the folder belongs to something else.
        LockedError: another process works in it.
    """
    path = Path(folder).resolve()
    locked = _LOCKED.get()
    if not enabled or path in locked:
        yield
        return
    with ExitStack() as stack:
        with os_errors_as_run_errors(Path(folder)):
            check_unused(path, mark, kind=kind, cache=cache.resolve() if cache else None)
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.lock(path / LOCK, what=str(folder)))
        token = _LOCKED.set(locked | {path})
        try:
            yield
        finally:
            _LOCKED.reset(token)


def check(folder: Path, recipe: Recipe, identity: Mapping[str, object]) -> None:
    """Check that a run, if there is one, has this recipe and identity; nothing is written.

    Args:
        folder: the folder of the run.
        recipe: the recipe.
        identity: values of the other files that identify a run, by name: vocabulary, truth, dataset.

    Raises:
        RunError: the folder holds another run.
    """
    if not (folder / RECIPE).is_file():
        return
    for name, expected in _contents(recipe, identity).items():
        path = folder / name
        if path.is_file() and _read(path) != _comparable(name, expected):
            raise RunError(f"{folder} holds a run of another {path.stem}; give the same to go on, or another folder")


def claim(folder: Path, recipe: Recipe, identity: Mapping[str, object], *, cache: Path | None = None) -> None:
    """Write the files that identify a run, or `check` them; then remove what killed processes left in the folder."""
    with os_errors_as_run_errors(folder):
        check_unused(folder.resolve(), RECIPE, kind="a run", cache=cache.resolve() if cache else None)
        check(folder, recipe, identity)
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in _contents(recipe, identity).items():
            if not (folder / name).is_file():
                files.write(folder / name, (json.dumps(value, indent=2 if name == RECIPE else None) + "\n").encode())
        files.remove_partial_files(folder)


@contextmanager
def os_errors_as_run_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `RunError` with advice; what the run had before is kept."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"the run cannot be kept in {folder}: {error}; free some space or give it another folder, and start it "
            "again: it goes on after its last complete epoch"
        ) from error


def _contents(recipe: Recipe, identity: Mapping[str, object]) -> dict[str, object]:
    return {RECIPE: recipe.to_dict(), **identity}


def _read(path: Path) -> object:
    """The comparable value in a file that identifies a run."""
    if path.name == RECIPE:
        try:
            return _comparable(RECIPE, Recipe.read(path).to_dict())
        except ConfigError as error:
            raise RunError(f"{error}; {REMEDY}") from error
    return files.read_json(path, (str, list), remedy=REMEDY)


def _comparable(name: str, value: object) -> object:
    """A value as JSON represents it; of a recipe only what changes the result."""
    if name == RECIPE and isinstance(value, dict):
        value = Recipe.from_dict(value).canonical().to_dict()
    return json.loads(json.dumps(value))
