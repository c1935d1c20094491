"""Table 1 from the published predictions."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from moodfield.errors import DatasetError, ScoresError
from moodfield.paper import recipes, table1


@pytest.mark.golden
def test_table_1_is_equal_to_four_digits(data):
    rows = table1.compute(data, n_resamples=20)
    assert {row.title: f"{row.computed:.4f}" for row in rows} == {
        "ShakeFAResNet": "0.1480", "FAResNet": "0.1463", "Avg_ensemble": "0.1546", "ResNet34": "0.1021",
        "CRNN": "0.1172", "VGG-ish": "0.1077", "popular": "0.0319",
    }  # fmt: skip
    assert all(row.same and row.interval.low < row.computed < row.interval.high for row in rows)
    assert table1.compute(data / "mediaeval2019", n_resamples=1)[0].computed == rows[0].computed


@pytest.mark.golden
def test_table_1_from_a_clone_of_the_tasks_repository(data, tmp_path):
    (tmp_path / "src").mkdir()
    shutil.copy(data / "mediaeval2019" / "groundtruth.npy", tmp_path / "src")
    shutil.copytree(data / "mediaeval2019", tmp_path / "submissions")
    assert all(row.same for row in table1.compute(tmp_path, n_resamples=1))


def test_a_folder_without_ground_truth_or_predictions_raises(tmp_path):
    with pytest.raises(DatasetError, match=r"groundtruth\.npy"):
        table1.compute(tmp_path)
    np.save(tmp_path / "groundtruth.npy", np.ones((3, 56)))
    with pytest.raises((ScoresError, DatasetError), match=r"predictions\.npy"):
        table1.compute(tmp_path)


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning_fabric", "safetensors", "matplotlib"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
from moodfield import nets
from moodfield.paper import recipes, table1

folder = sys.argv[1]
for title, row in recipes.SUBMISSIONS.items():
    assert all(member.recipe.clip_frames for member in row.members)
assert nets.configure("crnn", {"width": 32}).layers("time")
rows = table1.compute(folder, n_resamples=2)
assert {row.title for row in rows} == {title for title, row in recipes.SUBMISSIONS.items() if row.published}
assert "torch" not in sys.modules
"""


def test_table_1_and_recipes_need_no_torch(tmp_path):
    generator = np.random.default_rng(0)
    truth = generator.random((40, 3)) < 0.5
    np.save(tmp_path / "groundtruth.npy", truth.astype(np.float64))
    for row in recipes.SUBMISSIONS.values():
        if row.published:
            (tmp_path / row.published).parent.mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / row.published, generator.random(truth.shape))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
