"""The files of a model folder besides its network: README, provenance and card; needs no torch."""

import os
import re
from dataclasses import replace
from pathlib import Path

from moodfield import files
from moodfield.card import CARD, HEAD, NETWORK, PROVENANCE, README, WEIGHTS, Card, Provenance
from moodfield.errors import OutputError
from moodfield.training import readme

MODEL_FILES = frozenset((CARD, PROVENANCE, README, WEIGHTS, NETWORK, HEAD))


def write_card(card: Card, provenance: Provenance, folder: str | Path, *, appendix: str = "") -> Card:
    """Write README, provenance and card of a folder with weights and network; returns the card with checksums.

    `appendix` is Markdown that the README ends with.
    """
    folder = Path(folder)
    files.write(folder / README, readme.page(card, provenance, appendix=appendix).encode())
    provenance.write(folder)
    card = replace(card, sha256={name: files.sha256(folder / name) for name in (WEIGHTS, *card.network_files)})
    card.write(folder)
    return card


def check_folder(folder: Path) -> None:
    """Raise `OutputError` if replacing a model folder would delete files that are not of a model."""
    check_replaceable(folder)
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        is_ours = path.name in MODEL_FILES | {".DS_Store"} or files.PARTIAL.fullmatch(path.name)
        if path.is_dir() or not is_ours:
            raise OutputError(f"{folder} would be replaced, but holds {path.name!r}, not a file of a model; move it")


def check_replaceable(folder: Path) -> None:
    """Raise `OutputError` unless the path is missing, an empty folder, or a model folder, maybe unfinished."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file, expected a model folder; move it, or give another folder")
    names = {re.sub(r"\.[0-9a-f]{16}\.part$", "", path.name) for path in folder.iterdir()}
    if names - {".DS_Store"} and not names & {CARD, WEIGHTS}:
        raise OutputError(f"{folder} is neither empty nor a model folder: it holds {min(names)!r}; give another folder")
