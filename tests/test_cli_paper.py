"""The commands `paper train`, `figure1` and `table1`."""

import json
import shutil
from pathlib import Path

import pytest

from commands import invoke
from moodfield.paper import figure1, table1
from noises import TAGS
from test_reproduce import ONE_EPOCH

SET = [word for setting in ONE_EPOCH for word in ("--set", setting)]


@pytest.fixture(scope="module")
def folder(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset as a user has it; not to be changed."""
    folder = tmp_path_factory.mktemp("dataset")
    for part in ("train", "validation"):
        shutil.copy(dataset / f"{part}.tsv", folder / f"noises-{part}.tsv")
    (folder / "tags.txt").write_text("\n".join(TAGS))
    (folder / "audio").symlink_to(dataset / "music")
    return folder


def test_a_row_is_trained_and_compared(folder, tmp_path, no_export):
    given = ("paper", "train", "cp_resnet", "--data", folder, "-o", tmp_path / "row", "--cache-dir", tmp_path / "store")
    result = invoke(*given, "--small", *SET)
    assert result.code == 0, result.err
    assert "CP_ResNet: " in result.err
    assert "tracks: 10 for train, 2 for validation, 8 for test" in result.err
    assert "note: there is no noises-test.tsv" in result.err
    assert "GB of disk" in result.err
    assert "network cp_resnet" in result.err
    assert "this run, on noises (small, net.width=4" in result.out
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[1][-2:] == ["0.1097", "0.1325"]
    made = json.loads((tmp_path / "row" / "row.json").read_text())
    assert f"{made['test']:.4f}" in rows[2]
    again = invoke(*given, "--small", *SET, "--json")
    assert json.loads(again.out) == made
    assert invoke("submission", "check", tmp_path / "row", "--tags", folder / "tags.txt").code == 0
    other = invoke(*given, "--small", *SET, "--set", "seed=1")
    assert other.code == 1
    assert "another" in other.err


def test_torchrun_is_an_error(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = invoke("paper", "train", "CRNN", "--data", folder, "-o", tmp_path / "row", "--small")
    assert (result.code, "--on ray" in result.err) == (1, True)


def test_a_dry_run_writes_nothing(folder, tmp_path):
    result = invoke(
        "paper", "train", "FAResNet", "--data", folder, "-o", tmp_path / "row", "--small", "--dry-run", *SET
    )
    assert result.code == 0, result.err
    assert result.err.count("network fa_resnet-rho_time-") == 2
    assert not (tmp_path / "row").exists()
    assert result.out == ""


def test_figure_1_is_drawn(folder, tmp_path, no_export, monkeypatch):
    monkeypatch.setattr(figure1, "RHOS", (0, 3))
    given = (
        "paper",
        "figure1",
        "--data",
        folder,
        "-o",
        tmp_path / "f",
        "--cache-dir",
        tmp_path / "store",
        "--small",
    )
    result = invoke(*given, *SET)
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["0", "23"], ["3", "55"]]
    assert (tmp_path / "f" / "figure-1.png").read_bytes().startswith(b"\x89PNG")
    points = [json.loads(line) for line in invoke(*given, *SET, "--json").out.splitlines()]
    assert [(point["rho_freq"], point["rho_time"]) for point in points] == [(0, 0), (3, 3)]


def test_a_file_that_is_no_picture_is_an_error_before_training(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(figure1, "make", lambda *_, **__: pytest.fail("it began"))
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "figure-1.png").write_text("a letter")
    result = invoke("paper", "figure1", "--data", folder, "-o", tmp_path / "f", "--small", *SET)
    assert (result.code, result.out) == (2, "")
    assert (tmp_path / "f" / "figure-1.png").read_text() == "a letter"


@pytest.mark.golden
def test_table_1_is_reproduced(data, monkeypatch):
    monkeypatch.setattr(table1, "compute", lambda folder, real=table1.compute: real(folder, n_resamples=5))
    result = invoke("paper", "table1", "--data", data)
    assert result.code == 0, result.err
    assert "every row" in result.err
    assert [line.split()[:3] for line in result.out.splitlines()[1:4]] == [
        ["ShakeFAResNet", "0.1480", "0.1480"], ["FAResNet", "0.1463", "0.1463"], ["Avg_ensemble", "0.1546", "0.1546"]
    ]  # fmt: skip
    found = [json.loads(line) for line in invoke("paper", "table1", "--data", data, "--json").out.splitlines()]
    assert all(row["same"] for row in found)


@pytest.mark.parametrize(
    ("words", "token"),
    [(("table1",), "groundtruth.npy"), (("train", "FAResNet"), "-train.tsv"), (("figure1",), "-train.tsv")],
)
def test_a_folder_without_the_data_is_an_error(tmp_path, words, token):
    result = invoke("paper", *words, "--data", tmp_path)
    assert (result.code, token in result.err) == (1, True), result.err
