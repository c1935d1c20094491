"""The figure of a receptive field: its file, numbers and music."""

import errno
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import models
from moodfield import audio, mel
from moodfield.audio import Waveform
from moodfield.errors import AudioError, OutputError
from moodfield.mel import MelConfig
from moodfield.nets import summary
from moodfield.plots import figures, receptive_field


@pytest.fixture(scope="module")
def network() -> summary.NetworkToPlot:
    """A small network; not to be changed."""
    torch.manual_seed(0)
    return summary.untrained("fa_resnet", {"width": 4, "rho_freq": 5, "rho_time": 7})


@pytest.fixture
def drawn_figures(monkeypatch) -> list[Figure]:
    """The figures that would have been written."""
    caught: list[Figure] = []
    monkeypatch.setattr(figures, "write", lambda _path, figure: caught.append(figure))
    return caught


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


# The file


def test_png(tmp_path, network):
    receptive_field.draw(tmp_path / "field.png", network)
    content = (tmp_path / "field.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1_650, 990)
    assert 50_000 < len(content) < 2_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["field.png"]


@pytest.mark.parametrize(("name", "begins"), [("field.svg", b"<?xml"), ("field.PDF", b"%PDF")])
def test_svg_and_pdf(tmp_path, network, name, begins):
    receptive_field.draw(tmp_path / name, network)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_failed_write_keeps_the_last_figure(tmp_path, monkeypatch):
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "field.png").write_bytes(b"\x89PNG, the last one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            figures.write(tmp_path / "field.png", Figure())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("field.png", b"\x89PNG, the last one")]
    figures.write(tmp_path / "field.png", Figure())
    assert (tmp_path / "field.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("none/field.png", "does not exist"),
        ("field.jpg", r"\.pdf"),
        ("field", r"\.png"),
    ],
)
def test_an_invalid_path_raises_before_any_work(tmp_path, network, monkeypatch, place, match):
    monkeypatch.setattr(receptive_field, "passage", lambda *_: pytest.fail("work began"))
    with pytest.raises(OutputError, match=match):
        receptive_field.draw(tmp_path / place, network)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", figures.KINDS)
def test_only_figures_of_the_same_kind_are_replaced(tmp_path, ending):
    path = tmp_path / f"field{ending}"
    path.write_bytes(b"a letter")
    for function in (figures.check, lambda path: figures.write(path, Figure())):
        with pytest.raises(OutputError):
            function(path)
    assert path.read_bytes() == b"a letter"
    path.unlink()
    figures.write(path, Figure())
    figures.check(path)
    figures.write(path, Figure())
    with pytest.raises(OutputError):
        figures.check(path, inputs=[path])


def test_pyplot_is_not_used():
    assert "pyplot" not in Path(receptive_field.__file__).read_text(encoding="utf-8")


# Numbers and shapes


def test_numbers_and_outline_are_those_of_the_network(tmp_path, network, drawn_figures):
    receptive_field.draw(tmp_path / "field.png", network)
    (figure,) = drawn_figures
    text = words(figure)
    assert "fa_resnet   ρ 5 along frequency, 7 along time" in text
    assert f"for {network.summary.seconds:.2f} s" in text
    assert "a synthesised passage; weights drawn at random" in text
    centre = figure.axes[0]
    (outline,) = (patch for patch in centre.patches if isinstance(patch, Rectangle))
    assert outline.get_width() == pytest.approx(network.summary.seconds)
    assert outline.get_height() == network.summary.freq.size + 1
    assert outline.get_x() == pytest.approx(-network.summary.seconds / 2)
    scale = np.array([0.0, *mel.band_hz(MelConfig()), 22_050])
    low, high = (
        summary.format_hertz(float(np.interp(row, np.arange(-1, 257), scale)))
        for row in (outline.get_y(), outline.get_y() + outline.get_height())
    )
    assert f"{low} – {high} for" in text
    assert outline.get_y() < np.interp(1_000, scale, np.arange(-1, 257)) < outline.get_y() + outline.get_height()


def test_the_axes_are_seconds_and_hertz(tmp_path, network, drawn_figures):
    receptive_field.draw(tmp_path / "field.png", network)
    centre = drawn_figures[0].axes[0]
    assert centre.get_xlim() == pytest.approx((-2.5, 2.5), abs=0.01)
    assert "seconds" in centre.get_xlabel()
    labels = [label.get_text() for label in centre.get_yticklabels()]
    assert labels == ["125 Hz", "250 Hz", "500 Hz", "1 kHz", "2 kHz", "4 kHz", "8 kHz", "16 kHz"]
    rows = centre.get_yticks()
    np.testing.assert_allclose(
        mel.band_hz(MelConfig())[np.round(rows).astype(int)], receptive_field.TICKS_HZ, rtol=0.15
    )
    (legend,) = (axes.get_legend() for axes in drawn_figures[0].axes if axes.get_legend())
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["50 % of the effect", "80 % of the effect", "95 % of the effect", "field in theory"]
    assert [to_hex(patch.get_facecolor()) for patch in legend.get_patches()[:3]] == list(receptive_field.WARM)


def test_similar_fields_have_the_same_scale(tmp_path, drawn_figures):
    for rho in (2, 5, 12):
        receptive_field.draw(
            tmp_path / "x.png", summary.untrained("cp_resnet", {"width": 1, "rho_freq": 0, "rho_time": rho})
        )
    widths = [round(float(np.ptp(figure.axes[0].get_xlim()))) for figure in drawn_figures]
    assert widths == [5, 5, 10]


def test_a_field_beyond_the_mel_ends_with_it(tmp_path, drawn_figures):
    receptive_field.draw(tmp_path / "x.png", summary.untrained("resnet18", {"width": 1}))
    (outline,) = drawn_figures[0].axes[0].patches
    assert (outline.get_y(), outline.get_height()) == (-0.5, 256)
    assert "0 Hz – 22 kHz for 5.09 s" in words(drawn_figures[0])
    assert "ρ" not in words(drawn_figures[0])


@pytest.mark.parametrize("name", ["crnn", "vgg"])
def test_networks_for_fixed_lengths_and_whole_tracks(tmp_path, drawn_figures, name):
    network = summary.untrained(name, {"width": 1})
    receptive_field.draw(tmp_path / "x.png", network)
    (outline,) = drawn_figures[0].axes[0].patches
    assert outline.get_width() == pytest.approx(network.summary.seconds)


def test_contours_are_the_smallest_areas_with_their_share():
    generator = np.random.default_rng(0)
    effect = np.zeros((64, 100), np.float32)
    effect[10:50, 20:80] = generator.random((40, 60), np.float32) * np.hanning(40)[:, None] * np.hanning(60)
    view = receptive_field._View(models.MEL, effect / effect.sum(), range(5, 55), range(15, 85))
    assert view.smooth.shape == (50, 70)
    assert view.smooth.sum() == pytest.approx(1)
    for share in receptive_field.SHARES:
        level = view.level(share)
        assert view.smooth[view.smooth >= level].sum() >= share > view.smooth[view.smooth > level].sum()
    first, last = np.flatnonzero((view.smooth >= view.level(0.95)).any(axis=0))[[0, -1]]
    match = re.search(r"and (.*) s$", view.largest_share())
    assert match
    assert float(match[1]) == pytest.approx(((last - first) * models.MEL.hop_length + 1_024) / models.RATE, abs=0.005)


def test_a_field_of_one_cell_can_be_drawn(tmp_path, drawn_figures, network, monkeypatch):
    def one_cell(_net: object, clips: list[summary.Mel], **_: object) -> summary.Mel:
        effect = np.zeros_like(clips[0])
        effect[64, effect.shape[1] // 2] = 1
        return effect

    monkeypatch.setattr(summary, "effective_field", one_cell)
    receptive_field.draw(tmp_path / "x.png", network)
    assert len(drawn_figures) == 1


def test_a_trained_network_keeps_its_weights(tmp_path, drawn_figures, network, monkeypatch):
    clips = summary.clips_of(network.summary, receptive_field.passage(None, network.summary.mel).mel, 2)
    net = summary.with_random_weights(network.net, clips, np.random.default_rng(0))
    trained = summary.NetworkToPlot("mine", net, network.summary, trained=True)
    monkeypatch.setattr(summary, "with_random_weights", lambda *_: pytest.fail("random weights"))
    receptive_field.draw(tmp_path / "x.png", trained)
    assert "its own weights" in words(drawn_figures[0])
    assert words(drawn_figures[0]).startswith("mine ")


# The music


def test_passage_is_the_middle_of_the_file(tmp_path):
    whole = models.music(100)
    path = models.save(tmp_path / "long.wav", whole)
    passage = receptive_field.passage(path, models.MEL)
    assert passage.name == "long, 0:35 – 1:05"
    middle = audio.read(path, sample_rate=models.RATE).samples[35 * models.RATE : 65 * models.RATE]
    np.testing.assert_array_equal(passage.mel, mel.spectrogram(Waveform(middle, models.RATE), models.MEL))


def test_a_short_file_is_shown_whole(tmp_path, network, drawn_figures):
    path = models.save(tmp_path / "short.wav", models.music(3, rate=44_100))
    receptive_field.draw(tmp_path / "x.png", network, music=path)
    assert "short, 0:00 – 0:03" in words(drawn_figures[0])
    assert np.ptp(drawn_figures[0].axes[0].get_xlim()) == pytest.approx(3, abs=0.05)


def test_missing_music_raises(tmp_path, network):
    with pytest.raises(AudioError, match=r"none\.ogg"):
        receptive_field.draw(tmp_path / "x.png", network, music=tmp_path / "none.ogg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$5 and $x^{", "$5 and $x^{"),
        ("a\x1b[31mred", "a�[31mred"),
        ("音楽", "音楽"),
        ("x" * 90 + " the end", "x" * 20 + " the end, 0:00 – 0:05"),
    ],
)
def test_names_are_printed_literally(tmp_path, network, monkeypatch, name, shown):
    caught: list[Figure] = []
    written = figures.write
    monkeypatch.setattr(figures, "write", lambda path, figure: (caught.append(figure), written(path, figure)))
    receptive_field.draw(tmp_path / "x.png", network, music=models.save(tmp_path / f"{name}.wav", models.music(5)))
    assert (tmp_path / "x.png").stat().st_size > 50_000
    assert shown in words(caught[0])


@pytest.mark.parametrize("rate", [12_000, 44_100])
def test_the_synthesised_passage_has_energy_in_every_octave(rate):
    music = receptive_field.synthesised(rate)
    assert music.duration == 30
    assert music.sample_rate == rate
    assert np.abs(music.samples).max() == pytest.approx(0.9)
    np.testing.assert_array_equal(music.samples, receptive_field.synthesised(rate).samples)
    spectrum = np.abs(np.fft.rfft(music.samples)) ** 2
    hertz = np.fft.rfftfreq(len(music.samples), 1 / rate)
    for low in (62.5, 125, 250, 500, 1_000, 2_000, 4_000, *((8_000,) if rate > 16_000 else ())):
        assert spectrum[(hertz >= low) & (hertz < 2 * low)].sum() > 1e-4 * spectrum.sum()
    loud = np.abs(music.samples).reshape(60, -1).max(axis=1)
    assert loud.min() > 0.1
