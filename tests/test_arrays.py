"""Arrays and JSON are read safely and written atomically."""

import numpy as np
import pytest

from moodfield import arrays, files
from moodfield.errors import DatasetError, RunError


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, bool, np.int64])
def test_what_is_written_is_read_back(tmp_path, dtype):
    path, array = tmp_path / "new" / "a.npy", np.arange(6).reshape(2, 3).astype(dtype)
    arrays.write(path, array.T)
    assert arrays.shape(path, dtype, (None, 2)) == (3, 2)
    np.testing.assert_array_equal(arrays.read(path, dtype, (3, 2), remedy="again"), array.T)
    np.testing.assert_array_equal(arrays.memory_map(path, dtype, (3, None)), array.T)
    np.testing.assert_array_equal(arrays.read_numbers(path, ndim=2, expected="x", error=DatasetError), array.T)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array.T)


def test_objects_are_not_written(tmp_path):
    with pytest.raises(TypeError, match="pickled"):
        arrays.write(tmp_path / "a.npy", np.array([{}], object))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [lambda content: content[:-1], lambda content: content + b"\0", lambda content: b"x" + content, lambda _: b""],
)
def test_a_damaged_file_is_detected(tmp_path, change):
    path = tmp_path / "a.npy"
    arrays.write(path, np.ones((2, 3), np.float32))
    path.write_bytes(change(path.read_bytes()))
    assert arrays.shape(path, np.float32, (2, 3)) is None
    with pytest.raises(RunError, match=r"a\.npy .*again"):
        arrays.read(path, np.float32, (2, 3), remedy="again")
    with pytest.raises(ValueError, match="damaged"):
        arrays.memory_map(path, np.float32, (2, 3))


def test_another_shape_or_type_or_number_raises_an_error(tmp_path):
    path = tmp_path / "a.npy"
    arrays.write(path, np.array([[1.0, np.nan]], np.float32))
    for dtype, shape in ((np.float64, (1, 2)), (np.float32, (2, 2)), (np.float32, (None,)), (np.float32, (1, 2))):
        with pytest.raises(DatasetError, match="again"):
            arrays.read(path, dtype, shape, remedy="again", error=DatasetError)


@pytest.mark.parametrize("array", [np.ones(3), np.ones((0, 3)), np.ones((2, 2), complex), np.array([["a"]])])
def test_arrays_of_users_are_checked(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DatasetError, match="tracks × tags"):
        arrays.read_numbers(tmp_path / "a.npy", ndim=2, expected="numbers, tracks × tags", error=DatasetError)


@pytest.mark.parametrize("content", [None, b"", b"no array", b"\x93NUMPY\x01\x00\x08\x00((((((((", b"PK\x03\x04"])
def test_a_file_that_is_not_an_array_raises_one_error(tmp_path, content):
    if content is not None:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.npy"):
        arrays.read_numbers(tmp_path / "a.npy", ndim=2, expected="numbers", error=DatasetError)


def test_pickled_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"a\.npy"):
        arrays.read_numbers(tmp_path / "a.npy", ndim=2, expected="numbers", error=DatasetError)


@pytest.mark.parametrize("text", ["", "[", "[1]", "true", '{"a": NaN}', '{"a": Infinity}', "[" * 100_000])
def test_json_of_another_kind_raises_an_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError, match=r"a\.json .*remove it"):
        files.read_json(tmp_path / "a.json", dict, remedy="remove it")


def test_json_lines_end_with_a_complete_line(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert files.read_json_lines(path, remedy="restore it") == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n[]\n')
    with pytest.raises(RunError, match="line 2"):
        files.read_json_lines(path, remedy="restore it")
