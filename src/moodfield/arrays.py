"""NumPy arrays in `.npy` files, read safely and written atomically."""

import math
import re
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moodfield import files
from moodfield.errors import MoodfieldError, RunError

MAGIC, START, MAX_HEADER = b"\x93NUMPY\x01\x00", 10, 1_024
"""how a `.npy` file of version 1 begins, where its header begins, and how many bytes of the header are read"""
HEADER = re.compile(
    rb"\{'descr': '(?P<type>[<|=][a-z][0-9]{1,2})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>[0-9, ]{0,99})\), \} *\n"
)
"""the header of an array of numbers in C order"""

UNREADABLE = (
    OSError, ValueError, EOFError, TypeError, OverflowError, MemoryError, RecursionError, SyntaxError,
    tokenize.TokenError,
)  # fmt: skip
"""what NumPy raises for a file that is no array, or a malicious one: it parses the header as Python"""

Error = Callable[[str], MoodfieldError]
Shape = Sequence[int | None]
"""the length of every axis, None for any"""


def shape(path: Path, dtype: np.dtype[Any] | type, expected: Shape) -> tuple[int, ...] | None:
    """The shape of the array in a `.npy` file if its type, shape and size in bytes are as expected, else None.

    Reads the header alone, and accepts it only as NumPy writes it for an array in C order.
    """
    try:
        with path.open("rb") as file:
            start = file.read(START + MAX_HEADER)
            size = file.seek(0, 2)
    except OSError:
        return None
    header = HEADER.fullmatch(start[START : START + int.from_bytes(start[START - 2 : START], "little")])
    if start[: START - 2] != MAGIC or not header or np.dtype(dtype).str != header["type"].decode():
        return None
    lengths = tuple(int(length) for length in header["shape"].split(b",") if length.strip())
    cells = math.prod(lengths)
    complete = cells and size == START + header.end() + cells * np.dtype(dtype).itemsize
    return lengths if complete and _fits(lengths, expected) else None


def read(path: Path, dtype: type, expected: Shape, *, remedy: str, error: Error = RunError) -> np.ndarray:
    """The array in a `.npy` file that `write` has written: of this type and shape, every number finite.

    Raises `error` for any other file. `remedy` ends the message: what to do about it.
    """
    if shape(path, dtype, expected) is None:
        axes = " × ".join("any" if length is None else str(length) for length in expected)
        raise error(f"{path} is missing or damaged: expected an array of {np.dtype(dtype)}, {axes}; {remedy}")
    array: np.ndarray = np.load(path, allow_pickle=False)
    if not np.isfinite(array).all():
        raise error(f"{path} is damaged: not all of its numbers are finite; {remedy}")
    return array


def read_numbers(path: Path, *, ndim: int, expected: str, error: Error, kinds: str = "biuf") -> np.ndarray:
    """The numbers in any `.npy` file, with `ndim` axes and a type of `kinds` (NumPy's `dtype.kind`); never pickled.

    Raises `error` for any other file. The message names what is `expected`, such as "numbers, tracks × tags".
    """
    remedy = f"expected {expected}, saved with numpy.save"
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # of this format alone, without objects, and complete
    except FileNotFoundError as fault:
        raise error(f"there is no file {path}; {remedy}") from fault
    except UNREADABLE as fault:
        raise error(f"{path} cannot be read as an array ({fault}); {remedy}") from fault
    if array.ndim != ndim or array.dtype.kind not in kinds or (ndim > 1 and not array.size):
        raise error(f"{path} holds {array.dtype} of shape {array.shape}; {remedy}")
    return np.array(array)


def memory_map(path: Path, dtype: type, expected: Shape) -> np.ndarray:
    """The array in a `.npy` file that `write` has written, memory-mapped; raises `OSError` or `ValueError`."""
    if shape(path, dtype, expected) is None:
        path.open("rb").close()  # if it cannot be opened, that is the reason
        raise ValueError("it is damaged")
    return np.lib.format.open_memmap(path, mode="r")


def write(path: Path, array: np.ndarray) -> None:
    """Write an array as a `.npy` file in C order, atomically; makes the folder."""
    if array.dtype.hasobject:
        raise TypeError("an array of Python objects would have to be pickled")
    array = np.ascontiguousarray(array)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(path) as partial_path, partial_path.open("wb") as file:
        # np.save would lose the end of a small array on a full disk without an error
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def _fits(lengths: Sequence[int], expected: Shape) -> bool:
    axes = zip(lengths, expected, strict=False)
    return len(lengths) == len(expected) and all(required in (None, length) for length, required in axes)
