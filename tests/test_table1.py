"""Table 1 from the published predictions: digit for digit, wherever they lie, and refused where they do not."""

import shutil

import numpy as np
import pytest

from moodfield.errors import DatasetError, ScoresError
from moodfield.paper import table1


@pytest.mark.golden
def test_table_1_digit_for_digit(data):
    rows = table1.table_1(data, resamples=20)
    assert {row.title: f"{row.found:.4f}" for row in rows} == {
        "ShakeFAResNet": "0.1480", "FAResNet": "0.1463", "Avg_ensemble": "0.1546", "ResNet34": "0.1021",
        "CRNN": "0.1172", "VGG-ish": "0.1077", "popular": "0.0319",
    }  # fmt: skip
    assert all(row.same and row.interval.low < row.found < row.interval.high for row in rows)
    assert table1.table_1(data / "mediaeval2019", resamples=1)[0].found == rows[0].found


@pytest.mark.golden
def test_table_1_from_a_clone_of_the_tasks_repository(data, tmp_path):
    (tmp_path / "src").mkdir()
    shutil.copy(data / "mediaeval2019" / "groundtruth.npy", tmp_path / "src")
    shutil.copytree(data / "mediaeval2019", tmp_path / "submissions")
    assert all(row.same for row in table1.table_1(tmp_path, resamples=1))


def test_a_folder_without_the_task_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no groundtruth\.npy of the task is in"):
        table1.table_1(tmp_path)
    np.save(tmp_path / "groundtruth.npy", np.ones((3, 56)))
    with pytest.raises((ScoresError, DatasetError), match=r"predictions\.npy"):
        table1.table_1(tmp_path)
