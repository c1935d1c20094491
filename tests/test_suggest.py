"""Suggestions of tracks to label: the design, uncertainty, copies and labelled tracks, and the command."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import moodfield
from commands import Result, invoke, json_lines
from models import Exported
from moodfield.card import Card
from moodfield.errors import AudioError, ConfigError, DatasetError, ModelError, MoodfieldWarning
from moodfield.learning import embeddings, labels, learn, suggest
from noises import COUNT

NONE = np.zeros((0, 8), np.float32)


def clusters(*counts: int, channels: int = 8) -> np.ndarray:
    """Embeddings of tracks in clusters of some sizes."""
    drawn = np.random.default_rng(0)
    centres = 5 * np.eye(channels)[: len(counts)]
    rows = [centre + drawn.normal(size=(count, channels)) for centre, count in zip(centres, counts, strict=True)]
    return np.concatenate(rows).astype(np.float32)


# ---------------------------------------------------------------- the design


def test_the_selection_minimizes_the_weighted_posterior_variance():
    values, drawn = clusters(10, 10), np.random.default_rng(1)
    weights, labelled = drawn.random(20), values[:2] + 1
    rows = suggest.select(values, weights, 4, labelled=labelled)
    every = np.concatenate([values, labelled], dtype=np.float64)
    standard = (every - every.mean(axis=0)) / every.std(axis=0)
    tracks, others = standard[:20], standard[20:]

    def variance(selected: list[int]) -> float:
        """Weighted variance of linear regression with unit noise after labels of these tracks."""
        data = np.concatenate([others, tracks[selected]])
        covariance = np.linalg.inv(8 * np.eye(8) + data.T @ data)
        return float(weights @ np.diag(tracks @ covariance @ tracks.T))

    for number, row in enumerate(rows):
        rest = set(range(20)) - set(rows[:number])
        assert row == min(rest, key=lambda candidate: variance([*rows[:number], candidate]))


def test_suggestions_are_of_every_cluster_and_avoid_labelled_ones():
    values = clusters(30, 30, 30)
    of = np.repeat([0, 1, 2], 30)
    assert set(of[suggest.select(values, np.ones(90), 3, labelled=NONE)]) == {0, 1, 2}
    for cluster in range(3):
        rest = of != cluster
        [row] = suggest.select(values, np.ones(90), 1, labelled=values[rest] + 0.3)
        assert of[row] == cluster, "the others have labels"


def test_uncertain_tracks_are_preferred():
    values = clusters(20, 20)
    firsts = [suggest.select(values, weights, 1, labelled=NONE)[0] for weights in np.eye(40)]
    assert np.mean(firsts == np.arange(40)) > 0.7


def test_uncertainty_is_largest_at_the_threshold():
    scores, thresholds = np.array([[0.01, 0.5], [0.1, 0.9], [0.9, 0.999]]), np.array([0.1, np.inf])
    uncertain = suggest.uncertainty(scores, thresholds)
    assert uncertain[1, 0] == 1 > uncertain[0, 0] > uncertain[2, 0]
    assert uncertain[:, 1].max() < 1e-9, "a tag that is never decided"


def test_near_duplicates_are_not_both_selected():
    values = clusters(10, 10)
    twins = np.concatenate([values, values + 0.01])
    rows = suggest.select(twins, np.ones(40), 40, labelled=NONE)
    assert len({row % 20 for row in rows}) == len(rows) == len(suggest.select(values, np.ones(20), 20, labelled=NONE))
    assert not suggest.select(values, np.ones(20), 5, labelled=values + 0.01)


def test_constant_embeddings_and_weights_of_zero_are_no_fault():
    assert suggest.select(np.ones((3, 8), np.float32), np.ones(3), 2, labelled=NONE) == [0]
    assert len(suggest.select(clusters(5), np.zeros(5), 2, labelled=NONE)) == 2


# ---------------------------------------------------------------- in Python


@pytest.fixture(scope="module")
def learned(cp_model: Exported, music: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned the two kinds from a third of the music."""
    folder = tmp_path_factory.mktemp("suggest") / "mine"
    some = [track for track in labels.read([music]) if int(track.path.stem) % 3 == 0]
    learn.write_model(some, folder, base=cp_model.folder, cache_dir=cache)
    return folder


def test_labelled_tracks_are_not_suggested(learned, music, cache):
    labelled = {path: [path.parent.name] for path in sorted(music.rglob("[0369].wav"))}
    tracks = moodfield.suggest(music, learned, labelled=labelled, limit=5, cache_dir=cache)
    assert len(tracks) == 5
    assert not {track.path for track in tracks} & labelled.keys()
    assert {track.path.parent.name for track in tracks} == {"high", "low"}
    assert all(set(track.least_certain) == {"high", "low"} for track in tracks)
    assert tracks == moodfield.suggest([music], learned, labelled=list(labelled), limit=5, cache_dir=cache)


def test_a_learned_model_shares_the_embeddings_of_its_base(cp_model, learned, music, cache, monkeypatch):
    moodfield.suggest(music, cp_model.folder, cache_dir=cache)
    monkeypatch.setattr(embeddings, "_load", lambda *_: 1 / 0)
    scores = moodfield.suggest(music, learned, limit=1, cache_dir=cache)[0].least_certain
    assert Card.read(learned).vocabulary == tuple(sorted(scores))


def test_the_scores_are_those_of_tagging(learned, music, cache):
    track = moodfield.suggest(music, learned, limit=1, cache_dir=cache)[0]
    tagging = moodfield.load(learned).tag(track.path)
    by_tag = dict(zip(tagging.vocabulary, tagging.scores.tolist(), strict=True))
    assert track.least_certain == pytest.approx(by_tag, abs=1e-4)


def test_copies_are_suggested_once_and_not_if_one_is_labelled(cp_model, music, tmp_path, cache):
    paths = [Path(shutil.copy(music / "high" / "0.wav", tmp_path / name)) for name in ("a.wav", "b.wav")]
    tracks = moodfield.suggest(paths, cp_model.folder, cache_dir=cache)
    assert [track.path for track in tracks] == paths[:1]
    with pytest.raises(DatasetError, match="near-duplicates"):
        moodfield.suggest(paths[1:], cp_model.folder, labelled=paths[:1], cache_dir=cache)
    with pytest.raises(DatasetError, match="labelled already"):
        moodfield.suggest(tmp_path, cp_model.folder, labelled=tmp_path, cache_dir=cache)


def test_what_was_learned_beside_the_tags_of_the_base_counts(cp_model, learned, music, tmp_path, cache, monkeypatch):
    some = [track for track in labels.read([music]) if int(track.path.stem) % 3 == 0]
    learn.write_model(some, tmp_path / "kept", base=cp_model.folder, keep_tags=True, cache_dir=cache)
    monkeypatch.setattr(embeddings, "_load", lambda *_: 1 / 0)  # the embeddings are those of the base
    kept = moodfield.suggest(music, tmp_path / "kept", limit=3, cache_dir=cache)
    alone = moodfield.suggest(music, learned, limit=3, cache_dir=cache)
    assert [track.path for track in kept] == [track.path for track in alone]
    assert kept[0].least_certain == pytest.approx(alone[0].least_certain, abs=1e-5)


def test_invalid_arguments_raise(cp_model, crnn_model, music, tmp_path, cache):
    with pytest.raises(AudioError, match="no music"):
        moodfield.suggest(tmp_path, cp_model.folder, cache_dir=cache)
    with pytest.raises(ConfigError, match="limit"):
        moodfield.suggest(music, cp_model.folder, limit=0, cache_dir=cache)
    with pytest.raises(ModelError, match="no embedding"):
        moodfield.suggest(music, crnn_model.folder, cache_dir=cache)
    (tmp_path / "a.wav").write_text("no audio")
    with pytest.warns(MoodfieldWarning, match=r"a\.wav"), pytest.raises(DatasetError, match="cannot be read"):
        moodfield.suggest(tmp_path, cp_model.folder, cache_dir=cache)


# ---------------------------------------------------------------- the command


@pytest.fixture
def run(learned: Path, cache: Path):
    """Runs the command."""

    def call(*words: object, model: Path = learned) -> Result:
        return invoke("suggest", *words, "--model", model, "--cache-dir", cache, "--jobs", 1)

    return call


def test_the_command_lists_paths_in_a_fixed_order(run, music):
    result = run(music, "-n", 4)
    assert (result.code, result.err) == (0, "")
    paths = [Path(line) for line in result.out.splitlines()]
    assert len(set(paths)) == 4
    assert all(path.is_file() for path in paths)
    assert run(music, "--limit", 4).out == result.out
    objects = json_lines(run(music, "-n", 4, "--json").out)
    assert [line["source"] for line in objects] == [str(path) for path in paths]
    assert all(path.is_absolute() for path in paths)
    assert all(0 <= score <= 1 for line in objects for score in line["least_certain"].values())


def test_the_command_leaves_out_labelled_tracks(run, music, tmp_path):
    csv, playlist = tmp_path / "labels.csv", tmp_path / "low.m3u8"
    csv.write_text("".join(f"high/{number}.wav,high\n" for number in range(COUNT)))
    playlist.write_text(f"{music / 'low' / '0.wav'}\n")
    result = run(music, "--labels", csv, "--labels", playlist, "--audio", music, "-n", 100)
    assert result.code == 0, result.err
    paths = {Path(line) for line in result.out.splitlines()}
    assert paths
    assert paths <= {music / "low" / f"{number}.wav" for number in range(1, COUNT)}
    result = run(music, "--labels", music)
    assert (result.code, result.out, "labelled already" in result.err) == (1, "", True)


def test_one_track_is_suggested(run, music):
    assert run(music / "low" / "3.wav").out == f"{music / 'low' / '3.wav'}\n"


def test_unreadable_files_are_a_line_each(run, music, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no audio")
    result = run(tmp_path, music / "low" / "3.wav", tmp_path / "none.wav")
    assert (result.code, result.out) == (3, f"{music / 'low' / '3.wav'}\n")
    assert [sum(name in line for line in result.err.splitlines()) for name in ("a.wav", "b.wav", "none.wav")] == [1] * 3
    assert "3 of 4" in result.err.splitlines()[-1]
    result = run(tmp_path / "a.wav")
    assert (result.code, result.out) == (1, "")


def test_errors_come_before_any_work(run, crnn_model, music, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "compute", lambda *_, **__: 1 / 0)
    (tmp_path / "labels.csv").write_text("none.wav,calm\n")
    for code, token, words in (
        (1, "no music", (tmp_path,)),
        (1, "none.wav", (music, "--labels", tmp_path / "labels.csv")),
        (2, "--audio", (music, "--audio", music)),
        (2, "--audio", (music, "--labels", music, "--audio", tmp_path / "none")),
        (2, "limit", (music, "-n", 0)),
    ):
        result = run(*words)
        assert (result.code, result.out, token in result.err) == (code, "", True), words
    result = run(music, model=crnn_model.folder)
    assert (result.code, "no embedding" in result.err) == (1, True)
    assert run(music, model=Path("defalt")).code == 2
