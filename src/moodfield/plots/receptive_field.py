"""What a network sees becomes a picture over music.

In: a network, and a piece of music or none. Out: one picture, with axes in seconds and hertz.
Knows nothing of: how a network is built, trained or surveyed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from moodfield import audio, mel, receptive_field
from moodfield.audio import Waveform
from moodfield.mel import MelConfig
from moodfield.nets import summary
from moodfield.nets.summary import NetworkToPlot
from moodfield.plots import figures
from moodfield.plots.figures import FAINT, INK

PASSAGE_SECONDS = 30
"""seconds of music that the effective field is measured on"""
CLIPS = 8
"""clips of the passage whose gradients are averaged"""
SPANS = (5, 10, 20, 30)
"""seconds that a picture may show: few choices, so that most pictures can be laid side by side"""
ROOMY = 2.5
"""at least so many fields fit into the picture, if there is music for them"""
SHARES = (0.5, 0.8, 0.95)
"""shares of the effect that the contours hold"""
SMOOTHED = 1 / 40
"""contours follow the effective field smoothed by a normal curve whose deviation is this share of the field"""
TICKS_HZ = (125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
WARM = ("#b5123e", "#ee6a24", "#f9b83d")
"""colours of the shares, from the middle outwards"""
THEORY = "#0b5fa5"

Mel = Float32[np.ndarray, "bands frames"]


@dataclass(frozen=True, eq=False)
class Passage:
    """Some music to look at."""

    mel: Mel
    """its mel"""
    name: str
    """what it is, for the title"""


def draw(path: Path, candidate: NetworkToPlot, *, music: Path | None = None) -> None:
    """Put the picture of a network's receptive field at `path`, over music or over a synthesised passage.

    A network that has learned nothing gets weights drawn at random. Refuses a place where no picture can be with
    `ConfigError`, music that cannot be heard with `AudioError`.
    """
    figures.check(path)
    heard = passage(music, candidate.summary.mel)
    clips = summary.clips_of(candidate.summary, heard.mel, CLIPS)
    generator = np.random.default_rng(0)
    net = candidate.net if candidate.trained else summary.with_random_weights(candidate.net, clips, generator)
    config, made = candidate.summary.config, candidate.summary.mel
    near = float(np.interp(summary.REFERENCE_HZ, mel.band_hz(made), np.arange(made.n_mels)))
    row, bands = summary.cell(config, "freq", made.n_mels, near=near)
    _, frames = summary.cell(config, "time", clips[0].shape[1])
    effect = summary.effective_field(net, clips, row=row, generator=generator)
    figures.write(path, _figure(candidate, heard, _View(made, effect, bands, frames)))


def passage(music: Path | None, config: MelConfig) -> Passage:
    """The middle of a piece of music, or a synthesised passage; memory does not grow with the length of the music."""
    if music is None:
        return Passage(mel.spectrogram(synthesised(config.sample_rate), config), "a synthesised passage")
    count = sum(len(block) for block in audio.blocks(music, sample_rate=config.sample_rate))
    first = max(0, count - PASSAGE_SECONDS * config.sample_rate) // 2
    samples = np.concatenate(
        list(_part(music, config.sample_rate, first, first + PASSAGE_SECONDS * config.sample_rate))
    )
    begin, end = first // config.sample_rate, (first + len(samples)) // config.sample_rate
    name = f"{music.stem}, {begin // 60}:{begin % 60:02} – {end // 60}:{end % 60:02}"
    return Passage(mel.spectrogram(Waveform(samples, config.sample_rate), config), name)


def _part(music: Path, rate: int, first: int, last: int) -> Iterator[Float32[np.ndarray, "samples"]]:
    """The samples from one to another."""
    begin = 0
    for block in audio.blocks(music, sample_rate=rate):
        if begin >= last:
            return
        if begin + len(block) > first:
            yield block[max(first - begin, 0) : last - begin]
        begin += len(block)


# Music that is always there


def synthesised(rate: int) -> Waveform:
    """Chords, a melody over them, and beats: four bars again and again, with something in every part of a mel."""
    generator = np.random.default_rng(2019)
    music = np.zeros(8 * rate)
    chords = ((45, 57, 60, 64), (41, 57, 60, 65), (48, 55, 60, 64), (43, 55, 59, 62))
    for beat in range(16):
        chord = chords[beat // 4]
        if beat % 4 == 0:
            for key in chord:
                _add(music, rate, beat / 2, _tone(rate, key, 2.0, fade=1.2, partials=12), 0.05)
        for half in (0.0, 0.25):
            key = chord[int(generator.integers(1, 4))] + 12 * int(generator.integers(1, 3))
            _add(music, rate, beat / 2 + half, _tone(rate, key, 0.5, fade=0.15, partials=6), 0.04)
            _add(music, rate, beat / 2 + half, _hiss(rate, 0.05, generator), 0.02)
        if beat % 2 == 0:
            _add(music, rate, beat / 2, _drum(rate), 0.5)
        else:
            _add(music, rate, beat / 2, _hiss(rate, 0.2, generator), 0.1)
    loud = (music / np.abs(music).max() * 0.9).astype(np.float32)
    return Waveform(np.resize(loud, PASSAGE_SECONDS * rate), rate)


def _tone(rate: int, key: int, seconds: float, *, fade: float, partials: int) -> Float64[np.ndarray, "samples"]:
    """A string: partials that fall off with their number, as far as the rate carries them."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 440 * 2 ** ((key - 69) / 12)
    heard = [part for part in range(1, partials + 1) if part * pitch < rate / 2]
    waves = [np.sin(2 * np.pi * part * pitch * time) * np.exp(-time * part**0.5 / fade) / part for part in heard]
    return np.asarray(np.sum(waves, axis=0) * np.minimum(1, time / 0.01))


def _drum(rate: int) -> Float64[np.ndarray, "samples"]:
    """A low tone that falls."""
    time = np.arange(round(0.3 * rate)) / rate
    return np.sin(2 * np.pi * (50 * time + 6 * (1 - np.exp(-time / 0.04)))) * np.exp(-time / 0.1)


def _hiss(rate: int, seconds: float, generator: np.random.Generator) -> Float64[np.ndarray, "samples"]:
    """Noise that fades."""
    time = np.arange(round(seconds * rate)) / rate
    return np.asarray(generator.standard_normal(len(time)) * np.exp(-time * 5 / seconds))


def _add(
    music: Float64[np.ndarray, "samples"], rate: int, at: float, sound: Float64[np.ndarray, "_samples"], gain: float
) -> None:
    """A sound laid into the music, as far as it reaches."""
    first = round(at * rate)
    music[first : first + len(sound)] += gain * sound[: len(music) - first]


# The picture


class _View:
    """An effective field, where theory has it on the mel, and how to say so in seconds and hertz."""

    def __init__(self, made: MelConfig, effect: Mel, bands: range, frames: range) -> None:
        self.made = made
        self.bands = range(max(bands.start, 0), min(bands.stop, effect.shape[0]))
        self.frames = range(max(frames.start, 0), min(frames.stop, effect.shape[1]))
        self.smooth = _smooth(effect[self.bands.start : self.bands.stop, self.frames.start : self.frames.stop])
        self.seconds = (np.arange(len(self.frames)) - (len(self.frames) - 1) / 2) * made.hop_length / made.sample_rate

    def level(self, share: float) -> float:
        """How much the least cell has of the smallest area that holds this share of the effect."""
        falling = np.sort(self.smooth, axis=None)[::-1]
        return float(falling[np.searchsorted(np.cumsum(falling), share)])

    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, low and high end of the field in theory, in seconds from its middle and in bands."""
        half = self._lasts(len(self.frames)) / 2
        return -half, half, max(self.bands.start - 1.0, -0.5), min(float(self.bands.stop), self.made.n_mels - 0.5)

    def theory(self) -> str:
        """The size of the field in theory, in words."""
        return f"{self._hertz(self.bands)} for {self._lasts(len(self.frames)):.2f} s"

    def most(self) -> str:
        """The size of what holds the largest share of the effect, in words."""
        rows, columns = np.nonzero(self.smooth >= self.level(SHARES[-1]))
        bands = range(self.bands.start + int(rows.min()), self.bands.start + int(rows.max()) + 1)
        return f"{self._hertz(bands)} and {self._lasts(int(np.ptp(columns)) + 1):.2f} s"

    def _hertz(self, bands: range) -> str:
        scale = mel.edges_hz(self.made)
        return (
            f"{summary.format_hertz(float(scale[bands.start]))} – {summary.format_hertz(float(scale[bands.stop + 1]))}"
        )

    def _lasts(self, frames: int) -> float:
        return receptive_field.seconds(
            frames, sample_rate=self.made.sample_rate, n_fft=self.made.n_fft, hop_length=self.made.hop_length
        )


def _smooth(effect: Float32[np.ndarray, "freq time"]) -> Float64[np.ndarray, "freq time"]:
    """The effect without the grain that a mean of few gradients has; 1 in all."""
    smooth = effect.astype(np.float64)
    for axis, size in enumerate(effect.shape):
        deviation = max(size * SMOOTHED, 0.5)
        reach = min(round(3 * deviation) + 1, (size - 1) // 2)
        curve = np.exp(-((np.arange(-reach, reach + 1) / deviation) ** 2) / 2)
        smooth = np.apply_along_axis(np.convolve, axis, smooth, curve / curve.sum(), mode="same")
    return np.asarray(smooth / smooth.sum())


def _figure(candidate: NetworkToPlot, heard: Passage, view: _View) -> Figure:
    """Mel, theory and effect in the middle; what the effect is along either axis beside them; words above."""
    figure = Figure(figsize=(11, 6.6), dpi=150)
    grid = figure.add_gridspec(
        2, 2, width_ratios=(6, 1), height_ratios=(1, 5), wspace=0.02, hspace=0.035,
        left=0.07, right=0.985, bottom=0.085, top=0.84,
    )  # fmt: skip
    centre = figure.add_subplot(grid[1, 0])
    above, beside = figure.add_subplot(grid[0, 0], sharex=centre), figure.add_subplot(grid[1, 1], sharey=centre)
    _background(centre, heard.mel, view.made, candidate.summary.seconds)
    _contours(centre, view)
    left, right, low, high = view.extent()
    centre.add_patch(_outline((left, low), right - left, high - low))
    _axes(centre, view.made)
    _margins(above, beside, view)
    _legend(figure.add_subplot(grid[0, 1]))
    _words(figure, candidate, heard, view)
    return figure


def _background(axes: Axes, whole: Mel, made: MelConfig, seconds: float) -> None:
    """The middle of the mel, in greys that leave room for colour."""
    step = made.hop_length / made.sample_rate
    span = next((span for span in SPANS if span >= ROOMY * seconds), SPANS[-1])
    count = min(round(span / step), whole.shape[1])
    first = (whole.shape[1] - count) // 2
    shown = whole[:, first : first + count]
    low, high = np.percentile(shown, (5, 99.5))
    edge = count * step / 2
    axes.imshow(
        shown, origin="lower", aspect="auto", cmap="Greys", vmin=low, vmax=high + 0.5 * (high - low),
        extent=(-edge, edge, -0.5, len(whole) - 0.5),
    )  # fmt: skip
    axes.set_xlim(-edge, edge)
    axes.set_ylim(-0.5, len(whole) - 0.5)


def _contours(axes: Axes, view: _View) -> None:
    """The smallest areas that hold the shares of the effect."""
    rows = np.arange(view.bands.start, view.bands.stop)
    for share, colour in zip(SHARES[::-1], WARM[::-1], strict=True):
        level = view.level(share)
        axes.contourf(view.seconds, rows, view.smooth, levels=(level, 1.01), colors=[colour], alpha=0.6)
        axes.contour(view.seconds, rows, view.smooth, levels=(level,), colors=[colour], linewidths=1.2)


def _outline(corner: tuple[float, float], width: float, height: float) -> Rectangle:
    """The field in theory; it is drawn whole even where it ends with the mel."""
    return Rectangle(corner, width, height, fill=False, edgecolor=THEORY, linewidth=2, clip_on=False, zorder=4)


def _axes(axes: Axes, made: MelConfig) -> None:
    """Seconds and hertz."""
    ticks = [hertz for hertz in TICKS_HZ if hertz < made.sample_rate / 2]
    axes.set_yticks(
        np.interp(ticks, mel.edges_hz(made), np.arange(-1, made.n_mels + 1)),
        [summary.format_hertz(tick) for tick in ticks],
    )
    axes.set_xlabel("seconds from the middle of the cell", color=INK)
    axes.tick_params(colors=INK, length=3)
    axes.spines[:].set_color(FAINT)


def _margins(above: Axes, beside: Axes, view: _View) -> None:
    """The effect along time and along frequency, between the ends of the field in theory."""
    along_freq, along_time = view.smooth.sum(axis=1), view.smooth.sum(axis=0)
    rows = np.arange(view.bands.start, view.bands.stop)
    above.fill_between(view.seconds, along_time, color=WARM[1], alpha=0.75, linewidth=0)
    beside.fill_betweenx(rows, along_freq, color=WARM[1], alpha=0.75, linewidth=0)
    left, right, low, high = view.extent()
    above.vlines((left, right), 0, 1, THEORY, linewidth=2, clip_on=False, transform=above.get_xaxis_transform())
    beside.hlines((low, high), 0, 1, THEORY, linewidth=2, clip_on=False, transform=beside.get_yaxis_transform())
    above.set_ylim(0, 1.15 * float(along_time.max()))
    beside.set_xlim(0, 1.15 * float(along_freq.max()))
    for axes in (above, beside):
        axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
        axes.spines[:].set_visible(False)


def _legend(axes: Axes) -> None:
    """What the colours mean, in the corner that is free."""
    axes.axis("off")
    shares = [Patch(facecolor=colour, alpha=0.8) for colour in WARM]
    names = [f"{share:.0%} of the effect".replace("%", " %") for share in SHARES]
    axes.legend(
        [*shares, _outline((0.0, 0.0), 1.0, 1.0)], [*names, "field in theory"], loc="lower center",
        bbox_to_anchor=(0.5, 0.1), frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.4, borderpad=0,
    )  # fmt: skip


def _words(figure: Figure, candidate: NetworkToPlot, heard: Passage, view: _View) -> None:
    """What is seen, in numbers."""
    numbers = vars(candidate.summary.config)
    rho = ""
    if "rho_freq" in numbers:
        rho = f"   ρ {numbers['rho_freq']} along frequency, {numbers['rho_time']} along time"
    theory = f"In theory a cell sees {view.theory()}"
    effect = f"{SHARES[-1]:.0%} of what moves it lies within {view.most()}".replace("%", " %")
    weights = "its own weights" if candidate.trained else "weights drawn at random"
    cell = f"energy of the gradient of a cell near {summary.format_hertz(summary.REFERENCE_HZ)}, mean of {CLIPS} clips"
    aside = f"{figures.label(heard.name)}; {weights}; {cell}"
    for line, height, size, weight, colour in (
        (figures.label(candidate.name) + rho, 0.945, 15, "bold", INK),
        (f"{theory}; {effect}.", 0.905, 11, "normal", INK),
        (aside, 0.872, 9, "normal", FAINT),
    ):
        figure.text(0.07, height, line, fontsize=size, fontweight=weight, color=colour, parse_math=False)
