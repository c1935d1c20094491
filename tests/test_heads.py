"""Further heads of a model: tags of their own beside those of the model, from one run of its network."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
import moodfield
from commands import invoke, json_lines
from models import Exported
from moodfield import calibration, tagger, tags
from moodfield.calibration import Calibration
from moodfield.card import EMBEDDING, LOGITS, Card, Head
from moodfield.engine import OnnxEngine
from moodfield.errors import ConfigError, ModelError
from moodfield.learning import network
from moodfield.learning.head import LinearHead
from moodfield.predictor import TrackPredictor

SONG = models.music(12, seed=3)
HEAD = Head("mine", ("evening", "rain"), (0.3, 0.9), Calibration((0.5, 1.0), (0.1, -0.2)), (0.2, 0.4))


def random_head(channels: int, n_tags: int = 2, seed: int = 0) -> LinearHead:
    generator = np.random.default_rng(seed)
    return LinearHead(generator.normal(size=(n_tags, channels)) / np.sqrt(channels), generator.normal(size=n_tags))


def with_head(base: Path, folder: Path, head: Head = HEAD, *, seed: int = 0) -> Path:
    """A model folder with a further head."""
    source = network.read(base)
    folder.mkdir()
    weights = random_head(source.card.outputs[EMBEDDING], len(head.vocabulary), seed)
    network.write(source, weights, folder, further=head.name)
    outputs = {**source.card.outputs, head.name: len(head.vocabulary)}
    heads = (*source.card.heads, head)
    replace(source.card, name="two", outputs=outputs, heads=heads, reference_logits=(), sha256={}).write(folder)
    return folder


@pytest.fixture(scope="module")
def model(fa_model: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_head(fa_model.folder, tmp_path_factory.mktemp("heads") / "two")


def test_a_head_is_a_linear_map_of_the_embedding(fa_model, model):
    plain, tagging = moodfield.load(fa_model.folder).tag(SONG), moodfield.load(model).tag(SONG)
    [own] = tagging.heads
    logits = random_head(len(tagging.embedding)).logits(tagging.embedding[None])[0]
    np.testing.assert_allclose(own.scores, HEAD.calibration.scores(logits), atol=1e-4)
    assert (own.model, own.vocabulary, own.priors.tolist()) == ("mine", HEAD.vocabulary, pytest.approx([0.2, 0.4]))
    assert own.over_time.scores.shape == (2, len(tagging.over_time.seconds))
    np.testing.assert_allclose(
        calibration.logit(own.over_time.scores).mean(axis=1), calibration.logit(own.scores), atol=1e-2
    )
    np.testing.assert_array_equal(tagging.scores, plain.scores)  # the tags of the base are unchanged
    assert (tagging.decided, plain.heads) == (plain.decided, ())


def test_the_network_runs_once_for_all_heads(model, monkeypatch):
    tagger_ = moodfield.load(model)
    calls = []
    run = OnnxEngine.forward_features
    monkeypatch.setattr(OnnxEngine, "forward_features", lambda *args: calls.append(1) or run(*args))
    tagger_.tag(models.music(3))
    assert calls == [1]


def test_decisions_of_a_head_follow_its_thresholds(model):
    tagging = moodfield.load(model).tag(SONG)
    [own] = tagging.heads
    assert own.is_decided.tolist() == (own.scores > np.array(HEAD.thresholds, np.float32)).tolist()
    assert own.themes == ()


def test_json_has_the_values_of_heads(model, tmp_path):
    song = models.save(tmp_path / "song.wav", SONG)
    result = invoke("tag", song, "--model", model, "--json", "--over-time")
    [values] = json_lines(result.out)
    [own] = moodfield.load(model).tag(SONG).heads
    assert set(values["heads"]) == {"mine"}
    assert values["heads"]["mine"]["decided"] == list(own.decided)
    assert values["heads"]["mine"]["scores"]["rain"] == pytest.approx(own.scores[1], abs=1e-4)
    assert len(values["heads"]["mine"]["over_time"]["scores"]["rain"]) == len(own.over_time.seconds)
    assert "source" not in values["heads"]["mine"]
    assert "heads" not in moodfield.load("default").tag(SONG).to_dict()


def test_the_table_has_decided_tags_of_heads(fa_model, tmp_path):
    folder = with_head(fa_model.folder, tmp_path / "two", replace(HEAD, thresholds=(0.0, 0.0)))
    song = models.save(tmp_path / "song.wav", SONG)
    own = moodfield.load(folder).tag(SONG).heads[0].decided
    assert f"mine: {', '.join(own)}" in invoke("tag", song, "--model", folder).out
    for tag in own:
        assert f"mine: {tag}" in invoke("tag", song, "--model", folder, "--long").out


def test_a_model_may_have_several_heads(fa_model, model, tmp_path):
    other = replace(
        HEAD, name="other", vocabulary=("a", "b", "c"), thresholds=(0.5,) * 3, calibration=None, priors=None
    )
    tagging = moodfield.load(with_head(model, tmp_path / "three", other, seed=7)).tag(SONG)
    assert [own.model for own in tagging.heads] == ["mine", "other"]
    np.testing.assert_array_equal(tagging.heads[0].scores, moodfield.load(model).tag(SONG).heads[0].scores)
    [inner, *_] = [item.name for item in onnx.load(model / "model.onnx").graph.initializer]
    for number, name in enumerate(("mine", LOGITS, EMBEDDING, "mels", inner, "")):
        with pytest.raises(ConfigError, match="another name"):
            with_head(model, tmp_path / f"taken {number}", replace(HEAD, name=name))


def test_a_model_learned_from_one_with_heads_has_none_of_them(fa_model, model, tmp_path):
    source = network.read(model)
    folder = tmp_path / "learned"
    folder.mkdir()
    network.write(source, random_head(source.card.outputs[EMBEDDING]), folder)
    graph = onnx.load(folder / "model.onnx").graph
    assert [output.name for output in graph.output] == [LOGITS, EMBEDDING]
    assert not [item.name for item in graph.initializer if item.name.startswith("mine")]
    assert len(graph.initializer) == len(onnx.load(fa_model.folder / "model.onnx").graph.initializer)


def test_a_head_that_the_network_lacks_raises(fa_model, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "broken")
    shutil.copy(fa_model.folder / "model.onnx", folder)
    with pytest.raises(ModelError, match="mine"):
        moodfield.load(folder)


def test_models_with_heads_are_not_averaged(fa_model, model):
    with pytest.raises(ModelError, match="heads"):
        moodfield.load(fa_model.folder, model)
    assert len(moodfield.load(fa_model.folder, fa_model.folder).models) == 2


def test_relative_decisions_leave_heads_as_they_are(model):
    loaded = moodfield.load(model)
    taggings = [loaded.tag(models.music(2, seed=seed)) for seed in range(20)]
    for before, after in zip(taggings, moodfield.decide(taggings), strict=True):
        assert before.heads[0].decided == after.heads[0].decided


def test_track_predictor_has_logits_of_heads(model):
    [loaded] = moodfield.load(model).models
    predictor = TrackPredictor(loaded)
    predictor.push(np.zeros((loaded.card.mel.n_mels, 200), np.float32))
    output = predictor.finish()
    assert [logits.shape for logits in output.heads] == [(2, output.logits.shape[1])]


def test_the_bundled_model_has_no_further_heads():
    assert Card.read(tagger.model_folder("default")).heads == ()
    assert len(moodfield.load().vocabulary) == len(tags.MOODS_AND_THEMES)
