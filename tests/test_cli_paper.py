"""The command that makes the paper's results again: what it says, what it leaves, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from moodfield.paper import figure1, table1
from noises import TAGS
from test_cli import moodfield_
from test_reproduce import LEAST

SET = [word for setting in LEAST for word in ("--set", setting)]


@pytest.fixture(scope="module")
def folder(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset as a user has it; not to be changed."""
    folder = tmp_path_factory.mktemp("dataset")
    for part in ("train", "validation"):
        shutil.copy(dataset / f"{part}.tsv", folder / f"noises-{part}.tsv")
    (folder / "tags.txt").write_text("\n".join(TAGS))
    (folder / "audio").symlink_to(dataset / "music")
    return folder


def test_a_row_is_made_beside_the_papers(folder, tmp_path, no_export):
    given = ("reproduce", "cp_resnet", "--data", folder, "--to", tmp_path / "row", "--store", tmp_path / "store")
    answer = moodfield_(*given, "--small", *SET)
    assert answer.code == 0, answer.said
    assert "CP_ResNet: Not submitted: a single ResNet" in answer.said
    assert "tracks: 10 for train, 2 for validation, 8 for test" in answer.said
    assert "note: there is no noises-test.tsv" in answer.said
    assert "of computing on this machine" in answer.said
    assert "network cp_resnet" in answer.said
    assert "here, on noises (small, net.width=4" in answer.out
    rows = [line.split() for line in answer.out.splitlines()]
    assert rows[1][-2:] == ["0.1097", "0.1325"]
    made = json.loads((tmp_path / "row" / "row.json").read_text())
    assert f"{made['test']:.4f}" in rows[2]
    again = moodfield_(*given, "--small", *SET, "--json")
    assert json.loads(again.out) == made
    assert moodfield_("submission", "check", tmp_path / "row", "--tags", folder / "tags.txt").code == 0
    other = moodfield_(*given, "--small", *SET, "--set", "seed=1")
    assert other.code == 1
    assert "holds a reproduction of another plan" in other.said


def test_one_process_reproduces(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = moodfield_("reproduce", "CRNN", "--data", folder, "--to", tmp_path / "row", "--small")
    assert (answer.code, "side by side with --on ray" in answer.said) == (1, True)


def test_a_plan_is_said_and_nothing_is_done(folder, tmp_path):
    answer = moodfield_("reproduce", "FAResNet", "--data", folder, "--to", tmp_path / "row", "--small", "--plan", *SET)
    assert answer.code == 0, answer.said
    assert answer.said.count("network fa_resnet-rho_time-") == 2
    assert not (tmp_path / "row").exists()
    assert answer.out == ""


def test_figure_1_is_drawn(folder, tmp_path, no_export, monkeypatch):
    monkeypatch.setattr(figure1, "RHOS", (0, 3))
    given = ("reproduce", "figure1", "--data", folder, "--to", tmp_path / "f", "--store", tmp_path / "store", "--small")
    answer = moodfield_(*given, *SET)
    assert answer.code == 0, answer.said
    rows = [line.split() for line in answer.out.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["0", "23"], ["3", "55"]]
    assert (tmp_path / "f" / "figure-1.png").read_bytes().startswith(b"\x89PNG")
    points = [json.loads(line) for line in moodfield_(*given, *SET, "--json").out.splitlines()]
    assert [(point["rho_freq"], point["rho_time"]) for point in points] == [(0, 0), (3, 3)]


def test_a_figure_that_is_none_is_refused_before_anything_is_trained(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(figure1, "make", lambda *_, **__: pytest.fail("it began"))
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "figure-1.png").write_text("a letter")
    answer = moodfield_("reproduce", "figure1", "--data", folder, "--to", tmp_path / "f", "--small", *SET)
    assert (answer.code, answer.out) == (2, "")
    assert (tmp_path / "f" / "figure-1.png").read_text() == "a letter"


@pytest.mark.golden
def test_table_1_is_said_digit_for_digit(data, monkeypatch):
    monkeypatch.setattr(table1, "table_1", lambda folder, real=table1.table_1: real(folder, resamples=5))
    answer = moodfield_("reproduce", "Table1", "--data", data)
    assert answer.code == 0, answer.said
    assert "every row, digit for digit" in answer.said
    assert [line.split()[:3] for line in answer.out.splitlines()[1:4]] == [
        ["ShakeFAResNet", "0.1480", "0.1480"], ["FAResNet", "0.1463", "0.1463"], ["Avg_ensemble", "0.1546", "0.1546"]
    ]  # fmt: skip
    found = [json.loads(line) for line in moodfield_("reproduce", "table1", "--data", data, "--json").out.splitlines()]
    assert all(row["same"] for row in found)


def test_what_is_not_there_is_refused(tmp_path):
    for name, said in (
        ("table1", r"no groundtruth.npy of the task"),
        ("FAResNet", "one file such as NAME-train.tsv is wanted in"),
    ):
        answer = moodfield_("reproduce", name, "--data", tmp_path)
        assert (answer.code, said in answer.said) == (1, True), answer.said
