"""The command `moodfield learn`: kinds of labels, results in words, early errors, and what is written."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from commands import Result, invoke, json_lines, start
from models import Exported
from moodfield.card import Card, Provenance
from moodfield.learning import embeddings, learn
from noises import COUNT, RATE


@pytest.fixture
def run(cp_model: Exported, cache: Path, tmp_path: Path):
    """Runs the command; the model is `mine` unless another output is named."""

    def call(*words: object, output: Path | None = None) -> Result:
        options = ("-o", output or tmp_path / "mine", "--base", cp_model.folder, "--cache-dir", cache, "--jobs", 1)
        return invoke("learn", *words, *options)

    return call


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def csv_of(path: Path, music: Path, *more: str) -> Path:
    """A CSV of all files in the music."""
    files = sorted(music.rglob("*.wav"))
    return write_csv(path, *(f"{file.relative_to(music)},{file.parent.name}" for file in files), *more)


def test_a_folder_of_folders_is_learned_listed_verified_and_used(run, music, tmp_path):
    result = run(music)
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[0][:5] == ["tag", "positives", "PR-AUC", "95", "%"]
    assert [row[:2] for row in rows[1:3]] == [["high", str(COUNT)], ["low", str(COUNT)]]
    pr_auc, low, _, high, chance, roc_auc, *interval = rows[1][2:]
    assert chance == "0.500" < low <= pr_auc <= high
    assert interval[0] <= roc_auc <= interval[2]
    assert "by track" in result.out
    assert f"--model {tmp_path / 'mine'}" in result.err
    assert len(result.err.splitlines()) == 1
    model = tmp_path / "mine"
    assert "high" in invoke("models", model).out
    assert invoke("models", model, "--verify").code == 0
    tagged = invoke("tag", music / "high", "--model", model, "--model", model, "--json", "--jobs", 1)
    lines = json_lines(tagged.out)
    assert len(lines) == COUNT
    assert sum("high" in line["decided"] for line in lines) > COUNT / 2


def test_a_csv_with_audio_elsewhere(run, music, tmp_path):
    result = run(csv_of(tmp_path / "labels.csv", music), "--audio", music, "--name", "my tags")
    assert result.code == 0, result.err
    assert Card.read(tmp_path / "mine").name == "my tags"


def test_a_playlist_takes_the_other_tracks_as_negatives(run, music, tmp_path):
    playlist = write_csv(tmp_path / "bright.m3u8", *map(str, sorted((music / "high").iterdir())))
    result = run(playlist, "--audio", music)
    assert result.code == 0, result.err
    assert f"{COUNT} of {COUNT} tracks" in result.err
    assert Card.read(tmp_path / "mine").vocabulary == ("bright",)
    alone = run(playlist, output=tmp_path / "alone")
    assert (alone.code, "bright" in alone.err, "without it" in alone.err) == (1, True, True)
    assert not (tmp_path / "alone").exists()


def test_tags_that_cannot_be_learned_are_stated_in_words(run, music, tmp_path):
    generator = np.random.default_rng(0)
    files = sorted(music.rglob("*.wav"))
    lines = [f"{path},{path.parent.name}" + ";random" * (generator.random() < 0.5) for path in files]
    lines[0] += ";rare"
    lines[-1] += ";rare"
    result = run(write_csv(tmp_path / "labels.csv", *lines))
    assert result.code == 0, result.err
    assert "rare cannot be learned: 2 tracks" in result.out
    assert any(line.startswith("random ") and "chance" in line for line in result.out.splitlines()[5:])
    assert Card.read(tmp_path / "mine").vocabulary == ("high", "low", "random")


def test_unreadable_audio_is_left_out(run, music, tmp_path):
    (tmp_path / "broken.wav").write_text("no audio")
    result = run(csv_of(tmp_path / "labels.csv", music, f"{tmp_path / 'broken.wav'},high"), "--audio", music)
    assert result.code == 3
    assert "broken.wav" in result.err
    assert f"1 of {2 * COUNT + 1}" in result.err
    assert Card.read(tmp_path / "mine").vocabulary == ("high", "low")


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("none.wav,calm\nother.wav,sad\n", ("2 of 2", "none.wav")),
        ("no labels", ("path,tag;tag",)),
        ("a.wav,calm\na.wav,\n", ("a.wav",)),
        ("a.wav,x;" + ";".join(map(str, range(5_000))), ("5,001",)),
        ("ä.wav,calm".encode("latin-1"), ("UTF-8",)),
        ("a.wav,calm\n", ("calm", "1 track")),
        ("", ("no track",)),
    ],
)
def test_invalid_labels_are_one_line_before_any_work(run, tmp_path, monkeypatch, content, tokens):
    monkeypatch.setattr(embeddings, "compute", lambda *_, **__: 1 / 0)
    (tmp_path / "a.wav").write_text("no audio")
    (tmp_path / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run(tmp_path / "labels.csv")
    assert (result.code, result.out) == (1, "")
    assert all(token in result.err for token in tokens)
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "mine").exists()


def test_usage_errors(run, music, tmp_path, monkeypatch):
    monkeypatch.setattr(learn, "write_model", lambda *_, **__: 1 / 0)
    (tmp_path / "notes.txt").write_text("mine")
    for words, output in (
        ((music, "--audio", tmp_path / "none"), None),
        ((music,), tmp_path),
        ((music,), Path("-x")),
        ((music,), tmp_path / "notes.txt"),
        ((), None),
    ):
        result = run(*words, output=output)
        assert (result.code, result.out) == (2, ""), words
    assert invoke("learn", music).code == 2
    monkeypatch.undo()
    result = invoke("learn", music, "-o", tmp_path / "mine", "--base", "defalt")
    assert (result.code, "default" in result.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupted_command_writes_no_model(cp_model, tmp_path):
    noise = np.random.default_rng(0).standard_normal(RATE)
    lines = []
    for number in range(60):
        sf.write(tmp_path / f"{number}.wav", 0.05 * np.tile(noise, 20)[number:], RATE)
        lines.append(f"{number}.wav,{'calm' if number % 2 else 'sad'}")
    options = ("-o", tmp_path / "mine", "--base", cp_model.folder, "--cache-dir", tmp_path / "cache", "--jobs", "1")
    program = start("learn", write_csv(tmp_path / "labels.csv", *lines), *options)
    while not list((tmp_path / "cache").rglob("*.npy")) and program.poll() is None:
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 130, err
    assert "Traceback" not in err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("mine")]
    assert len(list((tmp_path / "cache").rglob("*.npy"))) < 60


def test_help():
    result = invoke("learn", "--help")
    assert result.code == 0
    assert all(word in result.out for word in ("LABELS", "--audio", "--base", "playlists"))


def test_the_tags_of_the_base_are_kept_on_request(run, cp_model, music, tmp_path, monkeypatch):
    result = run(music, "--keep-tags", "--name", "own")
    assert result.code == 0, result.err
    assert "2 tags" in result.err
    card, model = Card.read(tmp_path / "mine"), tmp_path / "mine"
    assert (card.vocabulary, card.thresholds) == (cp_model.card.vocabulary, cp_model.card.thresholds)
    assert [(head.name, head.vocabulary) for head in card.heads] == [("own", ("high", "low"))]
    assert invoke("models", model, "--verify").code == 0
    assert "high, low" in invoke("models", model).out
    lines = json_lines(invoke("tag", music / "high", "--model", model, "--json", "--jobs", 1).out)
    assert sum("high" in line["heads"]["own"]["decided"] for line in lines) > COUNT / 2
    provenance = Provenance.read(model)
    assert provenance.limits[: len(Provenance.read(cp_model.folder).limits)] == Provenance.read(cp_model.folder).limits
    assert "own: PR-AUC-macro" in provenance.metrics
    monkeypatch.setattr(embeddings, "compute", lambda *_, **__: 1 / 0)
    paths = ("-o", tmp_path / "other", "--cache-dir", tmp_path)
    other = invoke("learn", music, "--base", model, "--keep-tags", "--name", "own", *paths)
    assert (other.code, "another name" in other.err) == (1, True), "before any work"
    assert not (tmp_path / "other").exists()
