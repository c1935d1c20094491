"""Recognise files of a library that were moved, renamed or exchanged, by their content."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from moodfield import parallel
from moodfield.library import analysis

FEW = 100
"""files whose digests one process computes"""


def recognise(
    sizes: Mapping[Path, int], contents: Mapping[str, tuple[int, bytes | None]], jobs: int = 1
) -> dict[Path, str]:
    """Files whose content the library has under a path where it is no longer.

    Only files of the same size as such a content are read. Of several files with one content, those whose paths end
    alike belong together.

    Args:
        sizes: New and changed files, and their sizes in bytes.
        contents: Size and SHA-256 of files of the library which have gone or are among the changed ones, by path.
        jobs: Processes that compute digests.

    Returns:
        Path of the file → its path in the library, which is the same for files that were only touched.
    """
    sizes_there = {size for size, digest in contents.values() if digest}
    candidates = [path for path, size in sizes.items() if size in sizes_there]
    paths = defaultdict[bytes, list[Path]](list)
    for path, digest in parallel.map(analysis.digest, candidates, jobs=jobs if len(candidates) > FEW else 1):
        if isinstance(digest, bytes):  # an error comes again when the file is tagged
            paths[digest].append(path)
    names = defaultdict[bytes, list[str]](list)
    for name, (_, stored) in contents.items():
        if stored is not None and stored in paths:
            names[stored].append(name)
    same: dict[Path, str] = {}
    for content, before in names.items():
        pairs = [(path, name) for path in paths[content] for name in before]
        taken: set[str] = set()
        for path, name in sorted(pairs, key=_common_end, reverse=True):
            if path not in same and name not in taken:
                same[path] = name
                taken.add(name)
    return same


def _common_end(pair: tuple[Path, str]) -> tuple[bool, int]:
    """How well a path fits one of the library: whether it is the same, and the length of their common end."""
    path, name = str(pair[0]), pair[1]
    letters = zip(reversed(path), reversed(name), strict=False)
    return path == name, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], letters))
