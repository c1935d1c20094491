"""JSON and `.npy` files of runs and caches, read safely and written atomically.

In: paths. Out: plain values and arrays, or one error that names the file.
Knows nothing of: what they mean.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from moodfield import files
from moodfield.errors import MoodfieldError, RunError

MOST_BYTES = 2**28
"""length of the longest JSON file that is read; the log of a long run has a thousandth of that"""

MAGIC, START, MOST_HEADER = b"\x93NUMPY\x01\x00", 10, 1_024
"""how a `.npy` file of version 1 begins, where its header does, and how many bytes of that are read"""
HEADER = re.compile(
    rb"\{'descr': '(?P<type>[<|=][a-z][0-9]{1,2})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>[0-9, ]{0,99})\), \} *\n"
)
"""the header of an array of numbers in C order"""

Error = Callable[[str], MoodfieldError]
Shape = Sequence[int | None]
"""the length of every axis, None for any"""


def read_json(path: Path, kind: type | tuple[type, ...], *, remedy: str, error: Error = RunError) -> Any:
    """The value in a JSON file, which is of this `kind`; any other file is refused with `error`, whatever is in it.

    `remedy` ends the message: what to do about a damaged file. Numbers that are not finite are refused, too.
    """
    return _json(_text(path, remedy, error), kind, str(path), remedy, error)


def read_lines(path: Path, *, remedy: str, error: Error = RunError) -> list[dict[str, Any]]:
    """The objects in a JSON Lines file; refused like `read_json`. A last line that was never ended is left out."""
    *lines, _ = _text(path, remedy, error).split("\n")
    return [_json(line, dict, f"{path}, line {number},", remedy, error) for number, line in enumerate(lines, start=1)]


def array_shape(path: Path, dtype: np.dtype[Any] | type, shape: Shape) -> tuple[int, ...] | None:
    """The shape of the array in a `.npy` file if it is of this type, shape and size in bytes, else None.

    Only the header is read, and only one as NumPy writes it for such an array in C order.
    """
    try:
        with path.open("rb") as file:
            start = file.read(START + MOST_HEADER)
            size = file.seek(0, 2)
    except OSError:
        return None
    header = HEADER.fullmatch(start[START : START + int.from_bytes(start[START - 2 : START], "little")])
    if start[: START - 2] != MAGIC or not header or np.dtype(dtype).str != header["type"].decode():
        return None
    found = tuple(int(length) for length in header["shape"].split(b",") if length.strip())
    fits = len(found) == len(shape) and all(
        length == wanted or wanted is None for length, wanted in zip(found, shape, strict=True)
    )
    cells = math.prod(found)
    offset = START + header.end()
    return found if fits and cells and size == offset + cells * np.dtype(dtype).itemsize else None


def read_array(path: Path, dtype: type, shape: Shape, *, remedy: str, error: Error = RunError) -> np.ndarray:
    """The finite numbers in a `.npy` file of this type and shape; any other file is refused with `error`."""
    if array_shape(path, dtype, shape) is None:
        wanted = " × ".join("any" if length is None else str(length) for length in shape)
        raise error(f"{path} is missing or damaged: wanted is an array of {np.dtype(dtype)}, {wanted}; {remedy}")
    array: np.ndarray = np.load(path, allow_pickle=False)
    if not np.isfinite(array).all():
        raise error(f"{path} is damaged: not all of its numbers are finite; {remedy}")
    return array


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as a `.npy` file, atomically."""
    content = BytesIO()
    np.save(content, np.ascontiguousarray(array), allow_pickle=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, content.getvalue())


def _text(path: Path, remedy: str, error: Error) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
        return content.decode("utf-8")
    except (OSError, ValueError) as fault:
        raise error(f"{path} cannot be read: {fault}; {remedy}") from fault


def _json(text: str, kind: type | tuple[type, ...], name: str, remedy: str, error: Error) -> Any:
    def refuse(number: str) -> NoReturn:
        raise ValueError(f"{number} is no number of JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as fault:
        raise error(f"{name} cannot be read as JSON: {fault}; {remedy}") from fault
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise error(f"{name} holds a {type(value).__name__}, and is damaged or something else; {remedy}")
    return value
