"""Predictions for an index: order, cache file, interrupted runs, unreadable tracks."""

from dataclasses import replace

import numpy as np
import pytest

from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import AudioError, ConfigError, DatasetError, MoodfieldWarning, ScoresError
from moodfield.evaluation import prediction

TAGS = ("happy", "sad", "dark")


class Predictor:
    """Predicts tracks, fails for some of them, and records which were predicted."""

    def __init__(self, *unreadable, stop=None):
        self.unreadable, self.stop, self.predicted = unreadable, stop, []

    def __call__(self, tracks):
        for track in tracks:
            if track.id == self.stop:
                raise KeyboardInterrupt
            self.predicted.append(track.id)
            number = int(track.id)
            scores = np.array([number / 100, 0.25, 1 / 3], np.float32)
            yield track, AudioError("missing", f"no {track.id}") if track.id in self.unreadable else scores


INDEX = [Track(str(n), f"{n}.mp3", 60.0, ()) for n in range(6)]


def predict_index(predict, tmp_path, *, model="m", vocabulary=("dark", "happy"), **more):
    return prediction.predict_index(
        INDEX, predict, tags=TAGS, vocabulary=vocabulary, cache=tmp_path / "new" / "scores.jsonl", model=model, **more
    )


def test_scores_are_in_the_order_of_the_index_and_the_vocabulary(tmp_path):
    reported = []
    found = predict_index(Predictor(), tmp_path, progress=lambda track, error: reported.append((track.id, error)))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:, 1], np.float32(np.arange(6) / 100))
    np.testing.assert_array_equal(found[:, 0], np.full(6, np.float32(1 / 3)))  # every digit
    assert reported == [(str(n), None) for n in range(6)]
    nowhere = prediction.predict_index(INDEX, Predictor(), tags=TAGS, vocabulary=TAGS, cache=None, model="m")
    np.testing.assert_array_equal(nowhere[:, [2, 0]], found)


@pytest.mark.parametrize("cut", [0, 5])
def test_cached_tracks_are_not_predicted_again(tmp_path, cut):
    with pytest.raises(KeyboardInterrupt):
        predict_index(Predictor(stop="3"), tmp_path)
    cache = tmp_path / "new" / "scores.jsonl"
    if cut:  # killed in the middle of a line
        cache.write_bytes(cache.read_bytes()[:-cut])
    predictor = Predictor()
    found = predict_index(predictor, tmp_path)
    assert predictor.predicted == (["2"] if cut else []) + ["3", "4", "5"]
    np.testing.assert_array_equal(found, predict_index(Predictor(), tmp_path / "elsewhere"))
    again = Predictor()
    reported = []
    predict_index(again, tmp_path, progress=lambda track, error: reported.append(track.id))
    assert again.predicted == []
    assert reported == ["0", "1", "2", "3", "4", "5"]


def test_scores_are_cached_at_once(tmp_path):
    cache, sizes = tmp_path / "new" / "scores.jsonl", []
    predict_index(
        Predictor(), tmp_path, progress=lambda track, error: sizes.append(len(cache.read_bytes().splitlines()))
    )
    assert sizes == [2, 3, 4, 5, 6, 7]


def test_unreadable_tracks_raise_together_and_are_tried_again(tmp_path):
    with pytest.raises(DatasetError, match=r"2 of 6.*no 1; 4\.mp3"):
        predict_index(Predictor("1", "4"), tmp_path)
    predictor = Predictor()
    predict_index(predictor, tmp_path)
    assert predictor.predicted == ["1", "4"]


def test_fill(tmp_path):
    with pytest.warns(MoodfieldWarning, match=r"2 of 6.*mean.*4\.mp3$"):
        mean = predict_index(Predictor("1", "4"), tmp_path, fill="mean")
    np.testing.assert_allclose(mean[[1, 4], 1], np.mean([0, 0.02, 0.03, 0.05]))
    with pytest.warns(MoodfieldWarning, match=r"2 of 6.*zeros"):
        zeros = predict_index(Predictor("1", "4"), tmp_path, fill="zeros")
    np.testing.assert_array_equal(zeros[[1, 4]], np.zeros((2, 2)))
    with pytest.raises(DatasetError, match="6 of 6 tracks"):
        predict_index(Predictor(*"012345"), tmp_path / "other", fill="mean")


@pytest.mark.parametrize(
    ("broken", "fill", "advised"), [("014", None, True), ("012345", None, False), ("012345", "zeros", False)]
)
def test_the_error_lists_few_tracks_and_gives_the_hint_if_it_helps(tmp_path, broken, fill, advised):
    with pytest.raises(DatasetError) as caught:
        predict_index(Predictor(*broken), tmp_path, fill=fill, hint="give --this")
    assert ("--this" in str(caught.value)) is advised
    assert str(caught.value).count(".mp3: ") == min(len(broken), 5)
    assert ("and 1 more" in str(caught.value)) is (len(broken) == 6)


def test_an_empty_cache_is_removed(tmp_path):
    with pytest.raises(DatasetError):
        predict_index(Predictor(*"012345"), tmp_path)
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(KeyboardInterrupt):
        predict_index(Predictor(stop="0"), tmp_path)
    assert not list((tmp_path / "new").iterdir())


def test_caches_of_another_model_and_damaged_caches_raise_and_stay(tmp_path):
    predict_index(Predictor(), tmp_path)
    cache = tmp_path / "new" / "scores.jsonl"
    before = cache.read_bytes()
    with pytest.raises(ConfigError, match="another model"):
        predict_index(Predictor(), tmp_path, model="other")
    assert cache.read_bytes() == before
    cache.write_bytes(before + b"no json\n")
    with pytest.raises(ConfigError, match="damaged lines"):
        predict_index(Predictor(), tmp_path)
    for scores in ("", ', "scores": [0.5]', ', "scores": [0.5, NaN, 0.5]', f', "scores": [0, 1, {10**400}]'):
        cache.write_bytes(before + b'{"track": "0"' + scores.encode() + b"}\n")
        with pytest.raises(ConfigError, match="damaged lines"):
            predict_index(Predictor(), tmp_path)


@pytest.mark.parametrize("other", ["id", "path", "audio"])
def test_caches_of_other_tracks_or_other_audio_raise(tmp_path, other):
    predict_index(Predictor(), tmp_path, audio="/here")
    index = [replace(track, **{other: f"{track.id}9"}) for track in INDEX] if other != "audio" else INDEX
    predictor, cache = Predictor(), tmp_path / "new" / "scores.jsonl"
    with pytest.raises(ConfigError, match="of other tracks"):
        prediction.predict_index(
            index, predictor, tags=TAGS, vocabulary=TAGS, cache=cache, model="m",
            audio="/there" if other == "audio" else "/here",
        )  # fmt: skip
    assert predictor.predicted == []


def test_a_missing_tag_raises_before_any_prediction(tmp_path):
    predictor = Predictor()
    with pytest.raises(ScoresError, match="slow, epic"):
        predict_index(predictor, tmp_path, vocabulary=("slow", "happy", "epic"))
    assert predictor.predicted == []
