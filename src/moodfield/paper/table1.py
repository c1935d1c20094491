"""Table 1 once more, from the predictions that were published.

In: a clone of the task's repository. Out: rows of the table beside what was printed, with intervals.
Knows nothing of: networks, or how predictions came to be.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moodfield.errors import DatasetError
from moodfield.evaluation import bootstrap, submissions
from moodfield.evaluation.bootstrap import Interval, System
from moodfield.paper import recipes

PUBLISHED = (
    ("submissions", "src/groundtruth.npy"),
    ("mediaeval2019", "mediaeval2019/groundtruth.npy"),
    (".", "groundtruth.npy"),
)
"""where the published predictions may be, and the truth beside them; the first as in the task's repository"""


@dataclass(frozen=True)
class Printed:
    """A row of Table 1 and the published predictions it was made of, scored again."""

    title: str
    """as the paper has it"""
    printed: float | None
    """PR-AUC on the test tracks, as printed"""
    found: float
    """macro PR-AUC of the published predictions"""
    interval: Interval
    """95 %, over tracks"""

    @property
    def same(self) -> bool:
        """Whether it is what was printed, digit for digit."""
        return self.printed is not None and f"{self.found:.4f}" == f"{self.printed:.4f}"


def table_1(folder: str | Path, *, resamples: int = bootstrap.N_RESAMPLES) -> list[Printed]:
    """The test column of Table 1 from what was published, with intervals.

    Takes a folder with `groundtruth.npy`, `CP-JKU/` and `baseline/` in it, one that has it as `mediaeval2019/`, or a
    clone of the task's repository. Refuses a folder without any of them.
    """
    folder = Path(folder)
    place, truth = next((known for known in PUBLISHED if (folder / known[1]).is_file()), ("", ""))
    if not truth:
        raise DatasetError(f"no groundtruth.npy of the task is in {folder}; name a clone of the task's repository")
    wanted = submissions.read_array(folder / truth)
    known = {title: each for title, each in recipes.SUBMISSIONS.items() if each.published}
    systems = [System(wanted, submissions.read_array(folder / place / str(each.published))) for each in known.values()]
    drawn = bootstrap.bootstrap(systems, generator=np.random.default_rng(0), n_resamples=resamples)
    return [
        Printed(title, each.test, found.report.macro["PR-AUC"], bootstrap.intervals(found)["PR-AUC-macro"])
        for (title, each), found in zip(known.items(), drawn, strict=True)
    ]
