"""The export as one ONNX file: outputs equal the tagger's, for every kind of network and mel, and for odd lengths."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import models
import moodfield
from commands import invoke
from moodfield import audio, clips, files, mel, tagger
from moodfield.calibration import Calibration
from moodfield.card import Card
from moodfield.decisions import Usual
from moodfield.errors import AudioError, ModelError
from moodfield.onnx_export import export
from moodfield.tagging import Tagging
from test_heads import with_head

TOLERANCE = 1e-4
STATISTICS = Usual(
    np.full(5, 0.2), np.array([0.1, 0.2, 0.0, 0.5, 0.4]), 50, {"rock": Usual(np.zeros(5), np.ones(5), 20)}
)
CLIP_SECONDS = clips.CLIP_FRAMES * 512 / models.RATE
"""of the small models: longer tracks are cut"""


class Exported:
    """An exported model, run by ONNX Runtime alone."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        self.metadata = json.loads(self.session.get_modelmeta().custom_metadata_map[export.METADATA])

    def __call__(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.session.run(None, {"waveform": samples}), strict=True))


def exported(model: str | Path, folder: Path) -> Exported:
    export.export(model, folder / "exported.onnx")
    return Exported(folder / "exported.onnx")


def assert_equal(outputs: dict[str, np.ndarray], tagging: Tagging) -> None:
    assert tuple(outputs["tags"]) == tagging.vocabulary
    np.testing.assert_allclose(outputs["scores"], tagging.scores, atol=TOLERANCE)
    np.testing.assert_allclose(outputs["scores_over_time"], tagging.over_time.scores, atol=TOLERANCE)
    np.testing.assert_allclose(outputs["seconds"], tagging.over_time.seconds, atol=1e-4)
    np.testing.assert_allclose(outputs["evidence"], tagging.evidence, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(outputs["decided"], tagging.is_decided)
    if tagging.embedding is not None:
        np.testing.assert_allclose(outputs["embedding"], tagging.embedding, rtol=1e-3, atol=TOLERANCE)


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported("default", tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def vgg_model(tmp_path_factory: pytest.TempPathFactory) -> models.Exported:
    return models.exported(tmp_path_factory.mktemp("models") / "vgg", "vgg")


# ---------------------------------------------------------------- equal to the tagger


@pytest.mark.parametrize("seconds", [1, 1.00006, 2.5, 12.345, 131.0, 131.1, 262.2])
def test_the_bundled_model_equals_the_tagger(default, seconds):
    track = models.music(seconds, rate=16_000)
    assert_equal(default(track.samples), moodfield.load().tag(track))


@pytest.mark.slow
def test_two_hundred_lengths_equal_the_tagger(default):
    model, generator = moodfield.load(), np.random.default_rng(0)
    for number, seconds in enumerate(np.exp(generator.uniform(0, np.log(600), 200))):
        track = models.music(seconds, seed=number, rate=16_000)
        assert_equal(default(track.samples), model.tag(track))


@pytest.mark.parametrize("seconds", [2.6, 3.3, CLIP_SECONDS - 0.01, CLIP_SECONDS + 0.3, 2 * CLIP_SECONDS])
@pytest.mark.parametrize("name", ["cp_model", "fa_model", "crnn_model"])
def test_perceptual_mels_and_whole_tracks_equal_the_tagger(request, tmp_path, name, seconds):
    model = request.getfixturevalue(name)
    track = models.music(seconds, seed=1)
    assert_equal(exported(model.folder, tmp_path)(track.samples), moodfield.load(model.folder).tag(track))


def test_the_whole_track_sets_the_floor_of_perceptual_mels(fa_model, tmp_path):
    """A loud moment at the end changes the scores at the start, by way of the clamp."""
    quiet, run = models.music(2.5 * CLIP_SECONDS), exported(fa_model.folder, tmp_path)
    samples = quiet.samples * np.float32(1e-3)
    samples[-200:] = 1
    track = replace(quiet, samples=samples)
    outputs = run(samples)
    assert_equal(outputs, moodfield.load(fa_model.folder).tag(track))
    assert np.abs(outputs["scores_over_time"][:, 0] - run(samples[:-200])["scores_over_time"][:, 0]).max() > 1e-2


@pytest.mark.parametrize("seconds", [1, 10, 29.9, 65.43])
def test_networks_of_fixed_length_equal_the_tagger(vgg_model, tmp_path, seconds):
    track = models.music(seconds, seed=2, rate=vgg_model.card.mel.sample_rate)
    assert_equal(exported(vgg_model.folder, tmp_path)(track.samples), moodfield.load(vgg_model.folder).tag(track))


def test_calibration_and_statistics_equal_the_tagger(fa_model, tmp_path):
    calibrated = replace(fa_model.card, calibration=Calibration((0.5, 1.0, 2.0, 1.5, 1.0), (0.1, -0.3, 0.0, 0.2, 0.5)))
    folder = models.varied(fa_model, tmp_path / "model")
    calibrated.with_usual(STATISTICS).write(folder)
    run, model = exported(folder, tmp_path), moodfield.load(folder)
    decided = 0
    for seed in range(8):
        track = models.music(5, seed=seed)
        assert_equal(run(track.samples), tagging := model.tag(track))
        decided += len(tagging.decided)
    assert decided


def test_priors_are_what_is_usual_without_statistics(fa_model, tmp_path):
    folder = models.varied(fa_model, tmp_path / "model", priors=(0.1, 0.2, 0.3, 0.4, 0.5))
    track = models.music(5)
    assert_equal(exported(folder, tmp_path)(track.samples), moodfield.load(folder).tag(track))


def test_further_heads_equal_the_tagger(fa_model, tmp_path):
    folder, track = with_head(fa_model.folder, tmp_path / "two"), models.music(12, seed=3)
    outputs, [head] = exported(folder, tmp_path)(track.samples), moodfield.load(folder).tag(track).heads
    assert outputs["mine/logits_over_time"].shape == outputs["mine/scores_over_time"].shape
    assert_equal({name.removeprefix("mine/"): value for name, value in outputs.items() if name != "scores"}, head)


def test_silence_around_music_equals_the_tagger(default):
    track = models.music(40, rate=16_000)
    track.samples[:160_000] = track.samples[-160_000:] = 0
    assert_equal(default(track.samples), moodfield.load().tag(track))


def test_real_music_equals_the_tagger(default, data):
    if not (paths := audio.find(data / "emotify")):
        pytest.skip("no music in emotify")
    for path in paths[:3]:
        track = audio.read(path, sample_rate=16_000)
        assert_equal(default(track.samples), moodfield.load().tag(track))


# ---------------------------------------------------------------- the file


def test_metadata_has_what_decisions_need(default):
    card = Card.read(tagger.model_folder("default"))
    assert default.metadata["vocabulary"] == list(card.vocabulary)
    assert default.metadata["themes"] == list(card.themes)
    assert default.metadata["sample_rate"] == card.mel.sample_rate
    assert default.metadata["thresholds"] == pytest.approx(card.thresholds)
    assert default.metadata["priors"] == pytest.approx(card.priors)
    assert set(default.metadata["usual"]["kinds"]) == set(card.usual.kinds)


def test_metadata_decide_as_the_graph_does(default):
    """By the rule that they have in words, from the logits over time alone."""
    meta, outputs = default.metadata, default(models.music(20, seed=5, rate=16_000).samples)
    scale, usual, constants = meta["calibration"], meta["usual"], meta["decisions"]
    logits = outputs["logits_over_time"].mean(axis=1, dtype=np.float64)
    logits = np.array(scale["slopes"]) * logits + np.array(scale["offsets"]) if scale else logits
    scores, clipped = 1 / (1 + np.exp(-logits)), np.clip(logits, -constants["max_logit"], constants["max_logit"])
    evidence = (clipped - usual["mean"]) / np.maximum(usual["std"], constants["min_std"])
    for kind in usual["kinds"].values():
        among = (clipped - kind["mean"]) / np.maximum(kind["std"], constants["min_std"]) + constants["kind_slack"]
        evidence = np.minimum(evidence, among)
    evidence[np.array(usual["std"]) <= constants["min_std"]] = 0
    np.testing.assert_allclose(evidence, outputs["evidence"], rtol=1e-3, atol=1e-3)
    thresholds = [np.inf if threshold is None else threshold for threshold in meta["thresholds"]]
    above = [tag for tag in np.argsort(-evidence) if scores[tag] > thresholds[tag]]
    decided = [
        tag for tag in above[: constants["max_tags"]] if evidence[tag] >= evidence[above[0]] - constants["margin"]
    ]
    assert sorted(decided) == np.flatnonzero(outputs["decided"]).tolist() != []


def test_metadata_name_their_format_version_and_networks(default):
    folder = tagger.model_folder("default")
    assert default.metadata["format"] == 1
    assert default.metadata["moodfield"] == moodfield.__version__
    assert default.metadata["networks"] == {"model.onnx": files.sha256(folder / "model.onnx")}
    for name in ("max_tags", "margin", "kind_slack", "max_logit", "min_std"):
        assert f"`{name}`" in default.metadata["decisions"]["rule"]


def test_thresholds_beyond_all_scores_are_json(fa_model, tmp_path):
    assert exported(fa_model.folder, tmp_path).metadata["thresholds"] == [0.5, 0.4, 0.5, 0.5, None]


def test_the_shortest_waveform_has_min_samples(crnn_model, tmp_path):
    run = exported(crnn_model.folder, tmp_path)
    samples = models.music(3).samples[: run.metadata["min_samples"]]
    assert np.isfinite(run(samples)["scores"]).all()
    with pytest.raises(AudioError, match="expected"):
        moodfield.load(crnn_model.folder).tag((samples[:-1], models.RATE))


def test_the_file_is_hardly_larger_than_the_network(default):
    network = tagger.model_folder("default") / "model.onnx"
    size = Path(default.session._model_path).stat().st_size
    assert size < network.stat().st_size + 4 * mel.filterbank(Card.read(network.parent).mel).size + 200_000


def test_the_command_writes_the_file_and_replaces_only_its_own_kind(tmp_path):
    path, text = tmp_path / "moodfield.onnx", tmp_path / "text.txt"
    for _ in range(2):
        result = invoke("export-onnx", "-o", path)
        assert (result.code, "16000 Hz" in result.err) == (0, True)
    onnx.checker.check_model(path, full_check=True)
    text.write_text("mine")
    assert invoke("export-onnx", "-o", text).code == 2
    assert text.read_text() == "mine"


def test_the_network_itself_is_not_overwritten(fa_model, tmp_path):
    folder = models.varied(fa_model, tmp_path / "model")
    assert invoke("export-onnx", "--model", folder, "-o", folder / "model.onnx").code == 2
    assert Card.read(folder) == fa_model.card


def test_operators_that_are_too_old_are_refused(fa_model, tmp_path):
    folder = models.varied(fa_model, tmp_path / "model", sha256={})
    network = onnx.load(folder / "model.onnx")
    network.opset_import[0].version = 11
    onnx.save(network, folder / "model.onnx")
    with pytest.raises(ModelError, match="export it again"):
        export.export(folder, tmp_path / "old.onnx")


def test_models_of_others_are_kept(tmp_path):
    network = tmp_path / "model.onnx"
    shutil.copy(tagger.model_folder("default") / "model.onnx", network)
    before = network.read_bytes()
    assert invoke("export-onnx", "-o", network).code == 2
    assert network.read_bytes() == before
    for _ in range(2):
        assert invoke("export-onnx", "-o", tmp_path / "own.onnx").code == 0
