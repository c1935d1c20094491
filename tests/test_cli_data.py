"""The commands `data download`, `validate`, `duplicates` and `stats`."""

import hashlib
import os
import pty
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import noises
from commands import invoke, json_lines, start
from moodfield.datasets import mtg_jamendo
from servers import Behavior, serve
from test_mtg_jamendo_download import NAMES, TARS, TRACKS, at, clone  # noqa: F401  (clone is a fixture)


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    """Two splits of noises that share a track, with a list of checksums."""
    noises.write(tmp_path, "noise-train", 5, seed=1)
    noises.write(tmp_path, "noise-test", 4, seed=2)
    music = tmp_path / "music"
    (music / "noise-test" / "3.wav").write_bytes((music / "noise-train" / "1.wav").read_bytes())
    (music / "noise-train" / "4.wav").write_bytes((music / "noise-train" / "0.wav").read_bytes())
    sums = {path.relative_to(music): hashlib.sha256(path.read_bytes()).hexdigest() for path in music.rglob("*.wav")}
    (tmp_path / "sums.txt").write_text("".join(f"{digest} {path}\n" for path, digest in sums.items()))
    return tmp_path


@pytest.fixture
def indexes(dataset_dir: Path) -> tuple[Path, Path]:
    return dataset_dir / "noise-train.tsv", dataset_dir / "noise-test.tsv"


# ---------------------------------------------------------------- download


def download(target: Path, index_dir: Path, mirror: str, *options: str | Path) -> tuple[str | Path, ...]:
    return ("data", "download", "moodtheme", "-o", target, "--index-dir", index_dir, "--mirror", mirror, *options)


def test_a_downloaded_dataset_is_valid(tmp_path, clone):  # noqa: F811
    target = tmp_path / "to"
    with serve(**{at(name): content for name, content in TARS.items()}) as server:
        result = invoke(*download(target, clone, server.url, "--parts", "2"))
        assert result.code == 0, result.err
        assert sorted(result.out.splitlines()) == [f"{name}  4 files" for name in NAMES[:2]]
        assert result.err.splitlines()[-1] == f"moodfield: 8 files are in {target}"
        result = invoke(*download(target, clone, server.url, "--json", "--keep-tars", "--jobs", "1"))
        assert json_lines(result.out) == [{"tar": name, "files": 4} for name in NAMES]
        assert len(server.requests) == 3
    assert (target / "tars" / NAMES[2]).is_file()
    index = tmp_path / "index.tsv"
    rows = ["\t".join(["t" + path[3:-8], "a", "b", path.replace(".low", ""), "1"]) for path in TRACKS]
    index.write_text("\n".join([noises.HEADER, *rows]) + "\n")
    checksums = target / "autotagging_moodtheme_audio-low_sha256_tracks.txt"
    result = invoke("data", "validate", index, "--audio", target, "--checksums", checksums, "--quick")
    assert (result.code, result.out) == (0, ""), result.err


def test_failed_tars_are_reported_and_end_with_3(tmp_path, clone):  # noqa: F811
    with serve(**{at(name): content for name, content in TARS.items()}) as server:
        server.always[at(NAMES[1])] = Behavior(code=404)
        result = invoke(*download(tmp_path / "to", clone, server.url))
        assert result.code == 3
        assert sorted(result.out.splitlines()) == [f"{NAMES[0]}  4 files", f"{NAMES[2]}  4 files"]
        assert f"moodfield: {NAMES[1]} " in result.err
        assert f"{server.url}/" in result.err
        assert "8 files are in" in result.err
        assert "1 of 3 tars failed" in result.err
        result = invoke(*download(tmp_path / "to", clone, server.url, "--json"))
        assert result.code == 3
        rows = {row["tar"]: row for row in json_lines(result.out)}
        assert rows[NAMES[0]] == {"tar": NAMES[0], "files": 4}
        assert "404" in rows[NAMES[1]]["error"]


def test_wrong_arguments_of_download(tmp_path, clone):  # noqa: F811
    for options, message in (
        (("--quality", "audio-lo"), "did you mean audio-low"),
        (("--mirror", "mtg-fats"), "did you mean mtg-fast"),
        (("--quality", "audio"), "has no autotagging_moodtheme_audio_sha256_tars.txt"),
    ):
        result = invoke(*download(tmp_path / "to", clone, "http://127.0.0.1:9", *options))
        assert result.code == (2 if "mean" in message else 1)
        assert message in result.err
    result = invoke("data", "download", "mood", "-o", tmp_path)
    assert result.code == 2
    assert "did you mean moodtheme" in result.err
    assert invoke("data", "download", "moodtheme").code == 2
    assert invoke("data", "download", "moodtheme", "-o", tmp_path, "--parts", "0").code == 2


def test_a_stopped_download_continues(tmp_path, clone):  # noqa: F811
    with serve(**{at(name): content for name, content in TARS.items()}) as server:
        server.always[at(NAMES[1])] = Behavior(code=503)
        command = start(*download(tmp_path / "to", clone, server.url))
        began = time.monotonic()
        while len(server.requests) < 4 and time.monotonic() - began < 30:
            time.sleep(0.05)
        os.kill(command.pid, signal.SIGINT)
        _, err = command.communicate(timeout=30)
        assert command.returncode == 130
        assert "stopped" in err
        assert len(err.splitlines()) == 1 or "503" in err
        server.always.clear()
        server.requests.clear()
        assert invoke(*download(tmp_path / "to", clone, server.url)).code == 0
        assert [request.path for request in server.requests] == [at(NAMES[1])]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stalled_server_does_not_delay_the_end(tmp_path, clone, number):  # noqa: F811
    with serve(**{at(name): content for name, content in TARS.items()}) as server:
        for name in NAMES:
            server.always[at(name)] = Behavior(stall=8.0)
        command = start(*download(tmp_path / "to", clone, server.url))
        began = time.monotonic()
        while len(server.requests) < 2 and time.monotonic() - began < 30:
            time.sleep(0.05)
        began = time.monotonic()
        os.kill(command.pid, number)
        command.communicate(timeout=30)
        assert time.monotonic() - began < 2
        assert command.returncode == 128 + number


# ---------------------------------------------------------------- validate


def test_a_valid_dataset_is_one_message(dataset_dir, indexes):
    result = invoke(
        "data", "validate", *indexes, "--audio", dataset_dir / "music", "--checksums", dataset_dir / "sums.txt"
    )
    assert (result.code, result.out) == (0, "")
    assert "no faults in 9 tracks" in result.err


def test_every_fault_is_a_line_and_an_object(dataset_dir, indexes):
    (dataset_dir / "music" / "noise-train" / "0.wav").unlink()
    (dataset_dir / "music" / "noise-test" / "0.wav").write_bytes(b"no music")
    (dataset_dir / "tags.txt").write_text("low\nhigh\n")
    with indexes[1].open("a") as index:
        index.write("x\n")
    arguments = (
        "data",
        "validate",
        *indexes,
        "--audio",
        dataset_dir / "music",
        "--tags",
        dataset_dir / "tags.txt",
        "--jobs",
        "1",
    )
    result = invoke(*arguments)
    assert result.code == 3
    table = [line.split(maxsplit=2) for line in result.out.splitlines()]
    assert table[0] == ["fault", "track", "message"]
    assert table[1][:2] == ["index", "–"]
    assert table[2][:2] == ["missing", "track_1000"]
    assert f"{dataset_dir}/music/noise-train/0.wav" in table[2][2]
    assert table[3][:2] == ["unreadable", "track_2000"]
    assert len(table) == 4
    assert "3 faults in 3 files, 9 tracks" in result.err
    faults = json_lines(invoke(*arguments, "--json").out)
    assert [fault["kind"] for fault in faults] == ["index", "missing", "unreadable"]
    assert set(faults[1]) == {"kind", "track", "path", "message"}
    (dataset_dir / "tags.txt").write_text("low\n")
    faults = json_lines(invoke(*arguments, "--json", "--quick").out)
    assert {fault["kind"] for fault in faults} == {"index", "missing", "tag"}


def test_progress_bars_on_a_terminal_do_not_mix_with_standard_output(dataset_dir, indexes):
    """The progress bar is written to the terminal, and JSON to standard output."""
    terminal, end = pty.openpty()
    (dataset_dir / "music" / "noise-train" / "0.wav").unlink()
    arguments = ("data", "validate", *indexes, "--audio", dataset_dir / "music", "--json", "--jobs", "1")
    command = start(*arguments, stderr=end)
    out, _ = command.communicate(timeout=60)
    os.close(end)
    assert [fault["kind"] for fault in json_lines(out)] == ["missing"]
    assert b"9/9" in os.read(terminal, 1_000_000)
    os.close(terminal)


def test_tolerance_of_durations(dataset_dir, indexes):
    text = indexes[0].read_text().replace("\t1.5\t", "\t3.2\t").replace("\t1.5\n", "\t3.2\n")
    indexes[0].write_text(text)
    arguments = ("data", "validate", indexes[0], "--audio", dataset_dir / "music", "--json", "--jobs", "1")
    assert {fault["kind"] for fault in json_lines(invoke(*arguments).out)} == {"duration"}
    assert invoke(*arguments, "--tolerance", "2").code == 0
    assert invoke(*arguments, "--tolerance", "-1").code == 2


def test_wrong_arguments_of_validate(dataset_dir, indexes):
    for arguments in (
        (*indexes, "--audio", dataset_dir / "none"),
        (dataset_dir / "sums.txt", "--audio", dataset_dir / "music"),
        (*indexes, "--audio", dataset_dir / "music", "--checksums", indexes[0]),
    ):
        assert invoke("data", "validate", *arguments).code == 1
    assert invoke("data", "validate", *indexes).code == 2


# ---------------------------------------------------------------- duplicates and stats


@pytest.mark.parametrize("by", ["--checksums", "--audio"])
def test_duplicates_are_shown_across_splits_and_counted(dataset_dir, indexes, by):
    arguments = ("data", "duplicates", *indexes, by, dataset_dir / {"--checksums": "sums.txt", "--audio": "music"}[by])
    with (dataset_dir / "sums.txt").open("a") as sums:  # in no split, so not compared
        sums.write(f"{'a' * 64} x.wav\n{'a' * 64} y.wav\n")
    result = invoke(*arguments)
    assert result.code == 0, result.err
    assert ("in the whole list of checksums: 3 groups, 6 files" in result.out) == (by == "--checksums")
    assert [line.split()[:2] for line in result.out.splitlines() if ".wav " in line and "also" not in line] == [
        ["noise-train/1.wav", "train"], ["noise-test/3.wav", "test"],
    ]  # fmt: skip
    assert "2 groups, 4 tracks: the same audio, byte for byte; " in result.out
    assert "within splits: 1 in train, 0 in test; across: 1" in result.out
    assert "1 track of test is also in train: noise-test/3.wav" in result.out
    all_lines = invoke(*arguments, "--all").out
    assert "noise-train/4.wav" in all_lines
    assert "noise-train/4.wav" not in result.out
    groups = json_lines(invoke(*arguments, "--json").out)
    assert [(group["across_splits"], [track["path"] for track in group["tracks"]]) for group in groups] == [
        (False, ["noise-train/0.wav", "noise-train/4.wav"]),
        (True, ["noise-train/1.wav", "noise-test/3.wav"]),
    ]


def test_tags_without_tracks_are_counted(dataset_dir, indexes):
    (dataset_dir / "tags.txt").write_text("low\nhigh\nepic\n")
    result = invoke("data", "stats", *indexes, "--tags", dataset_dir / "tags.txt")
    assert [line.split()[:4] for line in result.out.splitlines() if "epic" in line] == [["epic", "0", "0", "0"]]


def test_no_duplicates(dataset_dir, indexes):
    (dataset_dir / "other.txt").write_text(f"{'a' * 64} noise-test/0.wav\n")
    result = invoke("data", "duplicates", *indexes, "--checksums", dataset_dir / "other.txt")
    assert "no two of 9 tracks" in result.out


@pytest.mark.parametrize("by", ["--checksums", "--audio"])
def test_leaks_are_written_as_rows_for_evaluate_exclude(dataset_dir, indexes, by):
    source = dataset_dir / {"--checksums": "sums.txt", "--audio": "music"}[by]
    arguments = ("data", "duplicates", *indexes, by, source, "--json", "--write-leaks")
    result = invoke(*arguments, dataset_dir / "rows.txt")
    assert result.code == 0, result.err
    assert (dataset_dir / "rows.txt").read_text() == "3\n"
    assert invoke(*arguments, dataset_dir / "rows.txt").code == 0  # an earlier file of leaks may be replaced
    np.save(dataset_dir / "predictions.npy", np.random.default_rng(0).random((4, 2)))
    evaluation = ("--predictions", dataset_dir / "predictions.npy", "--truth", indexes[1], "--intervals", 0)
    assert "3 tracks" in invoke("evaluate", *evaluation, "--exclude", dataset_dir / "rows.txt").out
    (dataset_dir / "notes.txt").write_text("notes")
    for path in (dataset_dir / "notes.txt", source, indexes[0], dataset_dir / "rows.npy"):
        assert invoke(*arguments, path).code == 2
    assert (dataset_dir / "notes.txt").read_text() == "notes"


def test_no_leaks_are_an_empty_file(dataset_dir, indexes):
    (dataset_dir / "sums.txt").write_text("".join(f"{n:064x} {p}\n" for n, p in enumerate(all_paths(indexes))))
    arguments = ("--checksums", dataset_dir / "sums.txt", "--write-leaks", dataset_dir / "rows.txt")
    result = invoke("data", "duplicates", *indexes, *arguments)
    assert (result.code, "0 rows" in result.err, (dataset_dir / "rows.txt").read_text()) == (0, True, "")
    np.save(dataset_dir / "a.npy", np.random.default_rng(0).random((4, 2)))
    evaluation = ("--predictions", dataset_dir / "a.npy", "--truth", indexes[1], "--intervals", 0)
    assert invoke("evaluate", *evaluation, "--exclude", dataset_dir / "rows.txt").out.count("tracks") == 1
    assert invoke("data", "duplicates", indexes[0], *arguments).code == 2  # leaks need two splits
    (dataset_dir / "sums.txt").write_text(f"{0:064x} other.wav\n")
    failure = invoke("data", "duplicates", *indexes, *arguments)
    assert (failure.code, "sums.txt" in failure.err) == (1, True)


def all_paths(indexes: tuple[Path, Path]) -> list[str]:
    """The paths of all tracks."""
    return [track.path for index in indexes for track in mtg_jamendo.read(index).tracks]


def test_missing_files_are_reported_and_left_out(dataset_dir, indexes):
    (dataset_dir / "music" / "noise-train" / "1.wav").unlink()
    result = invoke("data", "duplicates", *indexes, "--audio", dataset_dir / "music")
    assert result.code == 0
    assert "moodfield: left out: " in result.err
    assert "1 groups, 2 tracks" in result.out


def test_counts_of_every_split_and_tag(dataset_dir, indexes):
    head, *rows = indexes[0].read_text().splitlines()
    indexes[0].write_text("\n".join([head, *(f"{row}\tmood/theme---low" for row in rows)]))  # the most frequent one
    result = invoke("data", "stats", *indexes, "--plot", dataset_dir / "tags.png")
    assert result.code == 0, result.err
    first, second = result.out.split("\n\n")
    rows = [line.split() for line in first.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["train", "5"], ["test", "4"]]
    splits = [mtg_jamendo.read(index) for index in indexes]
    expected = {tag: [int(split.truth[:, row].sum()) for split in splits] for row, tag in enumerate(noises.TAGS)}
    table = [line.split() for line in second.splitlines()]
    assert table[0] == ["tag", "train", "test", "all", "share"]
    assert {row[0]: list(map(int, row[1:3])) for row in table[1:]} == expected
    assert [row[0] for row in table[1:]] == ["low", "high"]
    assert [int(row[3]) for row in table[1:]] == sorted(map(sum, expected.values()), reverse=True)
    assert (dataset_dir / "tags.png").read_bytes().startswith(b"\x89PNG")
    splits_ = json_lines(invoke("data", "stats", *indexes, "--json").out)
    assert [split_["split"] for split_ in splits_] == ["train", "test"]
    assert {tag: [split_["tags"][tag] for split_ in splits_] for tag in noises.TAGS} == expected
    lines = invoke("data", "stats", indexes[0]).out.split("\n\n")[1].splitlines()
    assert [len(line.split()) for line in lines] == [3, 4, 4]  # one split has no column of sums


def test_splits_are_named_by_the_part_that_differs(dataset_dir, tmp_path):
    def split_names(*indexes: Path) -> list[str]:
        return [row["split"] for row in json_lines(invoke("data", "stats", *indexes, "--json").out)]

    text = (dataset_dir / "noise-train.tsv").read_text()
    (dataset_dir / "other").mkdir()
    for name in ("noise.tsv", "noise-small-train.tsv", "other/noise.tsv"):
        (dataset_dir / name).write_text(text)
    assert split_names(dataset_dir / "noise-train.tsv") == ["noise-train"]
    assert split_names(dataset_dir / "noise-train.tsv", dataset_dir / "noise-small-train.tsv") == [
        "train",
        "small-train",
    ]
    assert split_names(dataset_dir / "noise.tsv", dataset_dir / "noise-train.tsv") == ["noise", "noise-train"]
    assert split_names(dataset_dir / "noise.tsv", dataset_dir / "other/noise.tsv") == [
        str(dataset_dir / "noise.tsv"),
        str(dataset_dir / "other/noise.tsv"),
    ]


def test_a_bad_plot_path_is_a_usage_error_before_counting(dataset_dir, indexes):
    for command in (("stats",), ("stats", "--tags", dataset_dir / "tags.txt")):
        for plot in (
            dataset_dir / "none" / "tags.png",
            dataset_dir / "tags.txt",
            indexes[0],
            dataset_dir / "music.png",
        ):
            (dataset_dir / "music.png").write_text("no picture")
            before = indexes[0].read_bytes()
            result = invoke("data", *command, *indexes, "--plot", plot)
            assert (result.code, result.out) == (2, "")
            assert (indexes[0].read_bytes(), (dataset_dir / "music.png").read_text()) == (before, "no picture")


@pytest.mark.parametrize(
    "words",
    [
        ("validate", "--audio", "music", "--quick", "--tolerance", "2"),
        ("duplicates",),
        ("duplicates", "--audio", "music", "--checksums", "sums.txt"),
        ("duplicates", "--checksums", "sums.txt", "--jobs", "2"),
    ],
)
def test_contradicting_options_are_usage_errors(dataset_dir, indexes, monkeypatch, words):
    monkeypatch.chdir(dataset_dir)
    result = invoke("data", words[0], *indexes, *words[1:])
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("moodfield: ")
