"""Export: a complete model folder, the same logits as torch, and a card that is written last."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

import models
import moodfield
from models import Exported
from moodfield import card, clips, nets, tagger
from moodfield.card import Card, Provenance
from moodfield.engine import OnnxEngine, TorchEngine
from moodfield.errors import ModelError
from moodfield.mel import MelConfig
from moodfield.training import export, readme
from moodfield.training.recipe import Recipe

FILES = {card.WEIGHTS, card.NETWORK, card.README, card.PROVENANCE, card.CARD}
VGG = Recipe(
    net=nets.VGGConfig(), mel=MelConfig(sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, kind="plain")
)


def write_stub(net: nets.Net, card_: Card, folder: Path) -> Card:
    """Stands in for the exporter, which takes seconds."""
    (folder / card.NETWORK).write_bytes(b"some network")
    return card_


@pytest.fixture
def export_stub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Card]:
    """Exports all but the ONNX file."""
    monkeypatch.setattr(export, "_export_network", write_stub)
    net = models.network("cp_resnet")
    described = export.describe(Recipe(net=net.config, mel=models.MEL), net, models.VOCABULARY)
    return lambda folder: export.export(net, described, folder)


# ---------------------------------------------------------------- the folder


@pytest.mark.parametrize("name", ["cp_model", "fa_model"])
def test_a_model_folder_is_complete_with_right_checksums(request, name):
    model: Exported = request.getfixturevalue(name)
    assert {path.name for path in model.folder.iterdir()} == FILES
    stated = json.loads((model.folder / card.CARD).read_text())
    sums = {
        name: hashlib.sha256((model.folder / name).read_bytes()).hexdigest() for name in (card.WEIGHTS, card.NETWORK)
    }
    assert stated["sha256"] == dict(model.card.sha256) == sums
    assert Card.read(model.folder) == model.card


def test_the_network_is_restored_from_the_weights(cp_model):
    net = nets.from_dict(cp_model.card.net).build(n_mels=models.MEL.n_mels, n_tags=len(models.VOCABULARY)).eval()
    net.load_state_dict(load_file(cp_model.folder / card.WEIGHTS))
    mels = torch.randn(2, models.MEL.n_mels, 200)
    torch.testing.assert_close(net(mels), cp_model.net(mels), rtol=0, atol=0)
    assert net(mels).std() > 0.1


def test_the_onnx_file_names_no_folder_of_this_machine(cp_model):
    content = (cp_model.folder / card.NETWORK).read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert b"forward_features" not in content  # nor a stack trace


def test_the_onnx_file_is_self_contained_and_standard(cp_model):
    network = onnx.load(cp_model.folder / card.NETWORK, load_external_data=False)
    assert not any(tensor.external_data for tensor in network.graph.initializer)
    assert {opset.domain for opset in network.opset_import} <= {"", "ai.onnx"}
    onnx.checker.check_model(network)


@pytest.mark.parametrize("name", ["cp_model", "fa_model"])
@pytest.mark.parametrize(("batch", "frames"), [(1, 17), (1, 18), (3, 33), (2, 500), (1, 2_048)])
def test_onnx_and_torch_agree_for_any_number_and_length_of_clips(request, name, batch, frames):
    model: Exported = request.getfixturevalue(name)
    drawn = np.random.default_rng(frames).standard_normal((batch, models.MEL.n_mels, frames)).astype(np.float32)
    mels = drawn * model.net.standardize.std.numpy()[:, None] + model.net.standardize.mean.numpy()[:, None]
    engines = OnnxEngine(model.folder / card.NETWORK), TorchEngine(model.net)
    outputs, wanted = (engine.forward_head(engine.forward_features(mels)) for engine in engines)
    assert {name: getattr(wanted, name).shape[1] for name in model.card.outputs} == model.card.outputs
    for name in model.card.outputs:
        array, expected = getattr(outputs, name), getattr(wanted, name)
        assert array.shape == expected.shape
        assert expected.std() > 0.1
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_network_of_a_fixed_length_is_exported(tmp_path):
    torch.manual_seed(0)
    net = VGG.net.build(n_mels=96, n_tags=3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    torch.nn.init.normal_(net.dense.weight)
    net.standardize.set_statistics(torch.full((96,), -24.0), torch.full((96,), 16.0))
    described = export.describe(VGG, net, ("happy", "sad", "film"), name="baseline")
    assert described.lengths == clips.FixedLength(1_366, 683)
    export.export(net, described, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    mels = np.random.default_rng(0).normal(-24, 16, (3, 96, 1_366)).astype(np.float32)
    onnx_logits, wanted = (
        OnnxEngine(tmp_path / card.NETWORK).forward_features(mels),
        TorchEngine(net).forward_features(mels),
    )
    assert wanted.shape == (3, 3, 1)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(onnx_logits, wanted, rtol=1e-4, atol=1e-4)
    tagging = moodfield.load(tmp_path).tag(models.music(40))
    assert len(tagging.over_time.seconds) == 2
    assert tagging.theme_vocabulary == ("film",)


@pytest.mark.slow
def test_a_network_that_pools_whole_tracks_is_two_files(crnn_model):
    assert {path.name for path in crnn_model.folder.iterdir()} == FILES | {card.HEAD}
    assert set(crnn_model.card.sha256) == {card.WEIGHTS, card.NETWORK, card.HEAD}
    tagging = moodfield.load(crnn_model.folder).tag(models.music(20))
    assert len(tagging.over_time.seconds) == 1
    (crnn_model.folder / card.HEAD).rename(crnn_model.folder / "elsewhere")
    try:
        with pytest.raises(ModelError, match=r"head\.onnx"):
            moodfield.load(crnn_model.folder)
    finally:
        (crnn_model.folder / "elsewhere").rename(crnn_model.folder / card.HEAD)


def test_exporting_does_not_change_the_network(tmp_path, monkeypatch):
    """Batch norms are folded in a copy."""
    monkeypatch.setattr(export, "_export_part", lambda *_, **__: None)
    net = models.network("fa_resnet")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export._export_onnx(net, export.describe(Recipe(net=net.config, mel=models.MEL), net, models.VOCABULARY), tmp_path)
    assert before.keys() == net.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_batch_norms_are_folded(fa_model):
    network = onnx.load(fa_model.folder / card.NETWORK)
    assert "Conv" in {node.op_type for node in network.graph.node}
    assert "BatchNormalization" not in {node.op_type for node in network.graph.node}


# ---------------------------------------------------------------- incomplete and wrong exports


def test_a_folder_without_its_card_is_not_a_model(tmp_path, export_stub):
    export_stub(tmp_path)
    Card.read(tmp_path)
    (tmp_path / card.CARD).unlink()
    with pytest.raises(ModelError, match=r"without a card\.json"):
        moodfield.load(tmp_path)


def test_other_logits_than_those_of_torch_raise(tmp_path, cp_model, monkeypatch):
    def other(net: nets.Net, described: Card, folder: Path) -> None:
        (folder / card.NETWORK).write_bytes((cp_model.folder / card.NETWORK).read_bytes())

    monkeypatch.setattr(export, "_export_onnx", other)
    net = models.network("cp_resnet", rho_freq=1, seed=9)
    with pytest.raises(ModelError, match="of 300 frames"):
        export.export(net, cp_model.card, tmp_path)
    assert not (tmp_path / card.CARD).exists()
    export.export(cp_model.net, cp_model.card, tmp_path)
    assert (tmp_path / card.CARD).exists()


def test_another_shape_than_that_of_torch_raises(cp_model):
    with pytest.raises(ModelError, match=r"differ|cannot take"):
        export._compare(nets.create("cp_resnet", n_mels=64, n_tags=4, width=4).eval(), cp_model.card, cp_model.folder)


def test_a_model_replaces_another(tmp_path, export_stub):
    first = export_stub(tmp_path)
    (tmp_path / card.README).write_text("edited")
    assert Card.read(tmp_path) == first
    (tmp_path / card.NETWORK).write_bytes(b"edited")
    with pytest.raises(ModelError, match="is damaged"):
        Card.read(tmp_path)
    assert export_stub(tmp_path) == first == Card.read(tmp_path)


def test_an_interrupted_export_over_another_model_raises_on_load(tmp_path, export_stub, monkeypatch):
    export_stub(tmp_path)
    net = models.network("cp_resnet", seed=3)
    described = export.describe(Recipe(net=net.config, mel=models.MEL), net, models.VOCABULARY)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_export_network", stop)
    with pytest.raises(KeyboardInterrupt):
        export.export(net, described, tmp_path)
    with pytest.raises(ModelError, match=r"safetensors is damaged"):
        moodfield.load(tmp_path)


def test_the_network_is_left_in_evaluation_mode(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_export_network", write_stub)
    net = models.network("cp_resnet").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export.export(net, export.describe(Recipe(net=net.config, mel=models.MEL), net, models.VOCABULARY), tmp_path)
    assert not net.training
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())


# ---------------------------------------------------------------- card and README


def test_describe():
    net = models.network("cp_resnet")
    found = export.describe(Recipe(net=net.config, mel=models.MEL), net, models.VOCABULARY)
    assert found.vocabulary == models.VOCABULARY
    assert found.themes == ("film",)
    assert found.thresholds == (0.5,) * 5
    assert found.lengths == net.lengths
    assert found.mel == models.MEL
    assert nets.from_dict(found.net) == net.config
    assert found.sha256 == {}


def test_the_readme_contains_card_and_provenance(cp_model):
    described = replace(cp_model.card, licence="CC0-1.0", summary="A summary.")
    provenance = Provenance(origin={"music": "a folder"}, metrics={"PR-AUC": 0.123456})
    page = readme.page(described, provenance)
    for words in (
        "# cp_resnet",
        "A summary.",
        "CC0-1.0",
        "happy, sad, [dark], slow",
        "film",
        "a folder",
        "| PR-AUC | 0.1235 |",
    ):
        assert words in page
    bare = readme.page(replace(described, themes=()), Provenance())
    assert not any(words in bare for words in ("Themes", "Origin", "Metrics"))
    assert "happy, film, sad" in bare


def test_the_readme_of_the_bundled_model_is_generated():
    """`readme.page` with these arguments is what `make model` writes; write the file again when a page changes."""
    folder = tagger.PRETRAINED / "default"
    appendix = (Path(__file__).parents[1] / "docs" / "model.md").read_text(encoding="utf-8").strip()
    expected = readme.page(Card.read(folder), Provenance.read(folder), appendix=appendix)
    assert (folder / card.README).read_text(encoding="utf-8") == expected
