"""A figure becomes a file.

In: a figure, and where it is to be. Out: a picture that is there whole or not at all.
Knows nothing of: what is drawn.
"""

import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

from matplotlib.figure import Figure

from moodfield import errors, files
from moodfield.errors import OutputError

KINDS = MappingProxyType({".png": files.PNG, ".svg": files.SVG, ".pdf": files.PDF})
"""what a picture can be: the ending of its name → how such files begin"""
LONGEST_NAME = 48
"""letters of a name that a line has room for"""
INK = "#2b2b2b"
FAINT = "#6f6f6f"


def check(path: Path, *, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse with `OutputError`, before anything is computed, a file that must not be written.

    Its name must end like a picture; the `inputs`, and files of another kind, are not replaced.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path} does not end like a picture; call it something that ends in {', '.join(KINDS)}")
    files.check_output(path, kind=kind, inputs=inputs)


def write(path: Path, figure: Figure) -> None:
    """Save a figure to `path` atomically; refuses what `check` refuses."""
    check(path)
    drawn = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters of a name that the font lacks: they are boxes then
        figure.savefig(drawn, format=path.suffix[1:].lower(), facecolor="white")
    try:
        files.write(path, drawn.getvalue())
    except OSError as error:
        raise OutputError(f"the picture cannot be written to {path} ({error.strerror}); name another file") from error


def label(name: str) -> str:
    """A name for a line of the picture, shortened: the end of a long one is what tells it from others."""
    shown = errors.printable(name)
    return shown if len(shown) <= LONGEST_NAME else f"…{shown[1 - LONGEST_NAME :]}"
