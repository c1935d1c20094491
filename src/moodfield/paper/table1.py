"""Table 1, computed from the published predictions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moodfield.errors import DatasetError
from moodfield.evaluation import bootstrap, submissions
from moodfield.evaluation.bootstrap import Interval, System
from moodfield.paper import recipes

LAYOUTS = (
    ("submissions", "src/groundtruth.npy"),
    ("mediaeval2019", "mediaeval2019/groundtruth.npy"),
    (".", "groundtruth.npy"),
)
"""folders of the published predictions, and their ground truth; the first as in the task's repository"""


@dataclass(frozen=True)
class TableRow:
    """A row of Table 1, printed and computed."""

    title: str
    """name in the paper"""
    printed: float | None
    """PR-AUC on the test tracks, as printed"""
    computed: float
    """macro PR-AUC of the published predictions"""
    interval: Interval
    """its 95 % confidence interval over tracks"""

    @property
    def same(self) -> bool:
        """Whether both are equal to four digits."""
        return self.printed is not None and f"{self.computed:.4f}" == f"{self.printed:.4f}"


def compute(folder: str | Path, *, n_resamples: int = bootstrap.N_RESAMPLES) -> list[TableRow]:
    """The test column of Table 1 from the published predictions, with intervals.

    Args:
        folder: a clone of the task's repository; or a folder with `groundtruth.npy`, `CP-JKU/` and `baseline/`, or with
            these in `mediaeval2019/`.
        n_resamples: bootstrap resamples of the intervals.

    Raises:
        DatasetError: no ground truth in the folder.
    """
    folder = Path(folder)
    predictions, truth_path = next((paths for paths in LAYOUTS if (folder / paths[1]).is_file()), ("", ""))
    if not truth_path:
        raise DatasetError(f"{folder} has no groundtruth.npy of the task; name a clone of the task's repository")
    truth = submissions.read_array(folder / truth_path)
    published = {title: row for title, row in recipes.SUBMISSIONS.items() if row.published}
    systems = [
        System(truth, submissions.read_array(folder / predictions / str(row.published))) for row in published.values()
    ]
    resampled = bootstrap.bootstrap(systems, generator=np.random.default_rng(0), n_resamples=n_resamples)
    return [
        TableRow(title, row.test, system.report.macro["PR-AUC"], bootstrap.intervals(system)["PR-AUC-macro"])
        for (title, row), system in zip(published.items(), resampled, strict=True)
    ]
