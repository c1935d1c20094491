"""The folder of a run: whose it is, what was decided before it started, and which process works in it.

In: a folder, and what is to be trained. Out: the folder as that of this run, locked, or an error.
Knows nothing of: how a network is trained.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from moodfield import files
from moodfield.errors import ConfigError, OutputError, RunError
from moodfield.training.recipe import Recipe

RECIPE, VOCABULARY, TRUTH, DATASET = "recipe.json", "vocabulary.json", "truth.json", "material.json"
"""what a run was decided by: settings, tags, a digest of the truth, one of everything that it learns from"""
LOCK = ".lock"
"""held by the process that works in the folder"""
HARMLESS = frozenset({LOCK, ".DS_Store"})
"""files that make no folder somebody's: a lock of ours, and what macOS puts everywhere"""
REMEDY = "the run cannot go on; give another folder, or remove this one"
"""what to do about a damaged file of a run"""

_LOCKED: ContextVar[frozenset[Path]] = ContextVar("locked", default=frozenset())
"""folders that this process has locked, in calls that are under way"""


def check_unused(folder: Path, mark: str, *, what: str, cache: Path | None = None) -> None:
    """Refuse with `OutputError` a folder that holds something, but no file called `mark`: it is not ours.

    A folder may be missing, or hold what is left of a process that was killed before it had written this very file,
    such as the folder of its `cache`. `what` is what the folder would have to be.
    """
    if (folder / mark).is_file() or not folder.is_dir():
        return
    begun = re.compile(re.escape(mark) + r"\.[0-9a-f]{16}\.part")
    known = {path.name for path in ([cache, *cache.parents] if cache else ()) if path.parent == folder}
    strange = sorted(
        path.name for path in folder.iterdir() if not (path.name in HARMLESS | known or begun.fullmatch(path.name))
    )
    if strange:
        raise OutputError(
            f"{folder} is not {what}: it has no {mark}, but holds {strange[0]!r}"
            f"{f' and {len(strange) - 1} more' if len(strange) > 1 else ''}; give a new or empty folder"
        )


@contextmanager
def lock(
    folder: str | Path, mark: str = RECIPE, *, what: str = "a run", wanted: bool = True, cache: Path | None = None
) -> Iterator[None]:
    """Let no other process work in a folder of ours: refuses one that is somebody else's, or locked (`LockedError`).

    A call inside another one for the same folder has its lock. Where it is not `wanted`, nothing happens: of several
    processes that train together the first one has the lock for all.
    """
    place = Path(folder).resolve()
    held = _LOCKED.get()
    if not wanted or place in held:
        yield
        return
    with ExitStack() as stack:
        with os_errors_as_run_errors(Path(folder)):
            check_unused(place, mark, what=what, cache=cache.resolve() if cache else None)
            place.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.lock(place / LOCK, what=str(folder)))
        token = _LOCKED.set(held | {place})
        try:
            yield
        finally:
            _LOCKED.reset(token)


def check(folder: Path, recipe: Recipe, others: Mapping[str, object]) -> None:
    """Refuse with `RunError` the folder of a run that something else was decided by; nothing is written.

    `others` are the values of the other files, by their names: vocabulary, truth, material.
    """
    if not (folder / RECIPE).is_file():
        return
    for name, wanted in _decided(recipe, others).items():
        path = folder / name
        if path.is_file() and _settled(path) != _comparable(name, wanted):
            raise RunError(f"{folder} holds a run of another {path.stem}; give the same to go on, or another folder")


def claim(folder: Path, recipe: Recipe, others: Mapping[str, object], *, cache: Path | None = None) -> None:
    """Make a folder this run's, or refuse it like `check`; then remove what killed processes left in it."""
    with os_errors_as_run_errors(folder):
        check_unused(folder.resolve(), RECIPE, what="a run", cache=cache.resolve() if cache else None)
        check(folder, recipe, others)
        folder.mkdir(parents=True, exist_ok=True)
        for name, wanted in _decided(recipe, others).items():
            if not (folder / name).is_file():
                files.write(folder / name, (json.dumps(wanted, indent=2 if name == RECIPE else None) + "\n").encode())
        files.remove_partial_files(folder)


@contextmanager
def os_errors_as_run_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `RunError` that says what to do; all that the run had before is still there."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"the run cannot be kept in {folder}: {error}; make room or give it another folder, and start it again: "
            "it goes on after its last whole epoch"
        ) from error


def _decided(recipe: Recipe, others: Mapping[str, object]) -> dict[str, object]:
    return {RECIPE: recipe.to_dict(), **others}


def _settled(path: Path) -> object:
    """What a file of a run decides."""
    if path.name == RECIPE:
        try:
            return _comparable(RECIPE, Recipe.read(path).to_dict())
        except ConfigError as error:
            raise RunError(f"{error}; {REMEDY}") from error
    return files.read_json(path, (str, list), remedy=REMEDY)


def _comparable(name: str, value: object) -> object:
    """A value as JSON has it, without what decides nothing."""
    if name == RECIPE and isinstance(value, dict):
        value = Recipe.from_dict(value).canonical().to_dict()
    with contextlib.suppress(TypeError):
        value = json.loads(json.dumps(value))
    return value
