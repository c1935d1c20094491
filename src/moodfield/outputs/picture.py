"""A figure becomes a file.

In: a figure, and where it is to be. Out: a picture that is there whole or not at all.
Knows nothing of: what is drawn.
"""

import warnings
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from moodfield import files
from moodfield.errors import BadConfig

KINDS = (".png", ".svg", ".pdf")
"""what a picture can be, by the ending of its name"""
LONGEST_NAME = 48
"""letters of a name that a line has room for"""
INK = "#2b2b2b"
FAINT = "#6f6f6f"


def check(path: Path) -> None:
    """Refuse a place where no picture can be, before anything is computed for it."""
    if path.suffix.lower() not in KINDS:
        raise BadConfig(f"the picture was to be {path}; call it something that ends in {', '.join(KINDS)}")
    if not path.absolute().parent.is_dir():
        raise BadConfig(f"the picture {path} has no folder to be in; make {path.absolute().parent} first")


def write(path: Path, figure: Figure) -> None:
    """Put a picture at `path`; it is there whole or not at all."""
    check(path)
    drawn = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters of a name that the font lacks: they are boxes then
        figure.savefig(drawn, format=path.suffix[1:].lower(), facecolor="white")
    try:
        files.write(path, drawn.getvalue())
    except OSError as error:
        raise BadConfig(f"the picture cannot be written to {path} ({error.strerror}); name another file") from error


def printable(name: str) -> str:
    """A stranger's name, fit for a line of the picture: the end of a long one is what tells it from others."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return text if len(text) <= LONGEST_NAME else f"…{text[1 - LONGEST_NAME :]}"
