"""What every test may ask for: real data when it is there, and shapes checked while tests run."""

import os
from pathlib import Path

import jaxtyping
import pytest

jaxtyping.install_import_hook("moodfield", "beartype.beartype")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that `MOODFIELD_DATA` names; without it, the test is skipped."""
    folder = os.environ.get("MOODFIELD_DATA")
    if not folder:
        pytest.skip("real data: set MOODFIELD_DATA to its folder")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"real data: MOODFIELD_DATA={folder} is not a folder")
    return path
