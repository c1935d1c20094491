"""Check and write the file of a figure."""

import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

from matplotlib.figure import Figure

from moodfield import errors, files
from moodfield.errors import OutputError

KINDS = MappingProxyType({".png": files.PNG, ".svg": files.SVG, ".pdf": files.PDF})
"""suffix of a figure → first bytes of such files"""
MAX_LABEL = 48
"""most characters of a label"""
INK = "#2b2b2b"
FAINT = "#6f6f6f"


def check(path: Path, *, inputs: Iterable[str | Path] = ()) -> None:
    """Check before a computation that a figure may be written.

    Args:
        path: the file; an existing one must be of the same kind.
        inputs: files that must not be replaced.

    Raises:
        OutputError: another suffix than .png, .svg or .pdf, or the file must not be replaced.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path} is not the name of a figure; use one that ends in {', '.join(KINDS)}")
    files.check_output(path, kind=kind, inputs=inputs)


def write(path: Path, figure: Figure) -> None:
    """Save a figure atomically; raises what `check` raises."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about glyphs that the font lacks, which become boxes
        figure.savefig(buffer, format=path.suffix[1:].lower(), facecolor="white")
    files.write_output(path, buffer.getvalue(), kind=KINDS[path.suffix.lower()])


def label(name: str) -> str:
    """A name as a label; of a long one, the end.

    Example:
        >>> label("runs/" + "x" * 60)
        '…xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
    """
    text = errors.printable(name)
    return text if len(text) <= MAX_LABEL else f"…{text[1 - MAX_LABEL :]}"
