"""A figure of the receptive field of a network, in theory and in effect, over music."""

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
"""number of clips whose gradients are averaged"""
CHORDS = ((45, 57, 60, 64), (41, 57, 60, 65), (48, 55, 60, 64), (43, 55, 59, 62))
"""MIDI keys of the synthesised passage, a chord for every bar of 2 s"""
PARTIALS = 12
"""partials of its tones"""
SPANS = (5, 10, 20, 30)
"""widths of the figure in seconds: few, so that most figures can be compared"""
MIN_FIELDS = 2.5
"""smallest width of the figure in receptive fields, if there is enough music"""
SHARES = (0.5, 0.8, 0.95)
"""shares of the effective field within the contours"""
SMOOTHING = 1 / 40
"""standard deviation of the smoothing of the contours, as a share of the receptive field"""
TICKS_HZ = (125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
WARM = ("#b5123e", "#ee6a24", "#f9b83d")
"""colours of the shares, smallest first"""
THEORY = "#0b5fa5"

Mel = Float32[np.ndarray, "bands frames"]


@dataclass(frozen=True, eq=False)
class Passage:
    """The music below a receptive field."""

    mel: Mel
    """its mel"""
    name: str
    """its name, for the title"""


def draw(path: Path, network: NetworkToPlot, *, music: Path | None = None) -> None:
    """Draw the receptive field of a network.

    Args:
        path: the file to write: .png, .svg or .pdf.
        network: the network; an untrained one gets random weights.
        music: an audio file whose middle is the background; None is a synthesised passage.

    Raises:
        OutputError: the file must not be written; see `figures.check`.
        AudioError: the music cannot be read.
    """
    figures.check(path)
    background = passage(music, network.summary.mel)
    clips = summary.clips_of(network.summary, background.mel, CLIPS)
    generator = np.random.default_rng(0)
    net = network.net if network.trained else summary.with_random_weights(network.net, clips, generator)
    config, mel_config = network.summary.config, network.summary.mel
    near = float(np.interp(summary.REFERENCE_HZ, mel.band_hz(mel_config), np.arange(mel_config.n_mels)))
    row, bands = summary.cell(config, "freq", mel_config.n_mels, near=near)
    _, frames = summary.cell(config, "time", clips[0].shape[1])
    effect = summary.effective_field(net, clips, row=row, generator=generator)
    figures.write(path, _figure(network, background, _View(mel_config, effect, bands, frames)))


def passage(music: Path | None, config: MelConfig) -> Passage:
    """The middle of an audio file, or a synthesised passage; memory does not grow with the length of the file."""
    if music is None:
        return Passage(mel.spectrogram(synthesised(config.sample_rate), config), "a synthesised passage")
    count = sum(len(block) for block in audio.blocks(music, sample_rate=config.sample_rate))
    length = PASSAGE_SECONDS * config.sample_rate
    first = max(0, count - length) // 2
    parts, begin = [], 0
    for block in audio.blocks(music, sample_rate=config.sample_rate):
        parts.append(block[max(first - begin, 0) : max(first + length - begin, 0)])
        begin += len(block)
    samples = np.concatenate(parts)
    begin, end = first // config.sample_rate, (first + len(samples)) // config.sample_rate
    name = f"{music.stem}, {begin // 60}:{begin % 60:02} – {end // 60}:{end % 60:02}"
    return Passage(mel.spectrogram(Waveform(samples, config.sample_rate), config), name)


def synthesised(rate: int) -> Waveform:
    """Four repeated bars of chords, with noise on every beat, so that all mel bands have energy."""
    time = np.arange(2 * rate) / rate
    hiss = np.random.default_rng(2019).standard_normal(len(time)) * np.exp(-(time % 0.5) / 0.04)
    bars = []
    for keys in CHORDS:
        partials = [
            (number, number * pitch)
            for pitch in 440 * 2 ** ((np.array(keys) - 69) / 12)
            for number in range(1, PARTIALS + 1)
            if number * pitch < rate / 2
        ]  # the higher a partial is, the faster it decays
        waves = [np.sin(2 * np.pi * hertz * time) * np.exp(-time * part**0.5 / 1.2) / part for part, hertz in partials]
        bars.append(np.sum(waves, axis=0) * np.minimum(1, time / 0.01) + hiss)
    music = np.concatenate(bars)
    loud = (music / np.abs(music).max() * 0.9).astype(np.float32)
    return Waveform(np.resize(loud, PASSAGE_SECONDS * rate), rate)


class _View:
    """An effective receptive field within the theoretical one, in seconds and hertz."""

    def __init__(self, config: MelConfig, effect: Mel, bands: range, frames: range) -> None:
        self.config = config
        self.bands = range(max(bands.start, 0), min(bands.stop, effect.shape[0]))
        self.frames = range(max(frames.start, 0), min(frames.stop, effect.shape[1]))
        self.smooth = _smooth(effect[self.bands.start : self.bands.stop, self.frames.start : self.frames.stop])
        steps = np.arange(len(self.frames)) - (len(self.frames) - 1) / 2
        self.seconds = steps * config.hop_length / config.sample_rate

    def level(self, share: float) -> float:
        """Smallest value within the smallest area that contains this share of the effective field."""
        descending = np.sort(self.smooth, axis=None)[::-1]
        return float(descending[np.searchsorted(np.cumsum(descending), share)])

    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, low and high end of the theoretical field, in seconds from its middle and in bands."""
        half = self._duration(len(self.frames)) / 2
        return -half, half, max(self.bands.start - 1.0, -0.5), min(float(self.bands.stop), self.config.n_mels - 0.5)

    def theory(self) -> str:
        """The size of the theoretical field, as text."""
        return f"{self._hertz(self.bands)} for {self._duration(len(self.frames)):.2f} s"

    def largest_share(self) -> str:
        """The size of the area with the largest share of the effective field, as text."""
        rows, columns = np.nonzero(self.smooth >= self.level(SHARES[-1]))
        bands = range(self.bands.start + int(rows.min()), self.bands.start + int(rows.max()) + 1)
        return f"{self._hertz(bands)} and {self._duration(int(np.ptp(columns)) + 1):.2f} s"

    def _hertz(self, bands: range) -> str:
        scale = mel.edges_hz(self.config)
        return " – ".join(summary.format_hertz(float(scale[edge])) for edge in (bands.start, bands.stop + 1))

    def _duration(self, frames: int) -> float:
        return receptive_field.seconds(frames, self.config)


def _smooth(effect: Float32[np.ndarray, "freq time"]) -> Float64[np.ndarray, "freq time"]:
    """An effective field without the noise of few gradients; the sum is 1."""
    smooth = effect.astype(np.float64)
    for axis, size in enumerate(effect.shape):
        deviation = max(size * SMOOTHING, 0.5)
        reach = min(round(3 * deviation) + 1, (size - 1) // 2)
        curve = np.exp(-((np.arange(-reach, reach + 1) / deviation) ** 2) / 2)
        smooth = np.apply_along_axis(np.convolve, axis, smooth, curve / curve.sum(), mode="same")
    return np.asarray(smooth / smooth.sum())


def _figure(network: NetworkToPlot, background: Passage, view: _View) -> Figure:
    """Mel and both fields in the middle, the effective field along each axis beside them, text above."""
    figure = Figure(figsize=(11, 6.6), dpi=150)
    grid = figure.add_gridspec(
        2, 2, width_ratios=(6, 1), height_ratios=(1, 5), wspace=0.02, hspace=0.035,
        left=0.07, right=0.985, bottom=0.085, top=0.84,
    )  # fmt: skip
    centre = figure.add_subplot(grid[1, 0])
    above, beside = figure.add_subplot(grid[0, 0], sharex=centre), figure.add_subplot(grid[1, 1], sharey=centre)
    _background(centre, background.mel, view.config, network.summary.seconds)
    _contours(centre, view)
    left, right, low, high = view.extent()
    centre.add_patch(_outline((left, low), right - left, high - low))
    _axes(centre, view.config)
    _margins(above, beside, view)
    _legend(figure.add_subplot(grid[0, 1]))
    _words(figure, network, background, view)
    return figure


def _background(axes: Axes, whole: Mel, config: MelConfig, seconds: float) -> None:
    """The middle of the mel in light greys."""
    step = config.hop_length / config.sample_rate
    span = next((span for span in SPANS if span >= MIN_FIELDS * seconds), SPANS[-1])
    count = min(round(span / step), whole.shape[1])
    first = (whole.shape[1] - count) // 2
    visible = whole[:, first : first + count]
    low, high = np.percentile(visible, (5, 99.5))
    edge = count * step / 2
    axes.imshow(
        visible, origin="lower", aspect="auto", cmap="Greys", vmin=low, vmax=high + 0.5 * (high - low),
        extent=(-edge, edge, -0.5, len(whole) - 0.5),
    )  # fmt: skip
    axes.set_xlim(-edge, edge)
    axes.set_ylim(-0.5, len(whole) - 0.5)


def _contours(axes: Axes, view: _View) -> None:
    """The smallest areas with the given shares of the effective field."""
    rows = np.arange(view.bands.start, view.bands.stop)
    for share, colour in zip(SHARES[::-1], WARM[::-1], strict=True):
        level = view.level(share)
        axes.contourf(view.seconds, rows, view.smooth, levels=(level, 1.01), colors=[colour], alpha=0.6)
        axes.contour(view.seconds, rows, view.smooth, levels=(level,), colors=[colour], linewidths=1.2)


def _outline(corner: tuple[float, float], width: float, height: float) -> Rectangle:
    """The theoretical field, not clipped at the edges of the plot."""
    return Rectangle(corner, width, height, fill=False, edgecolor=THEORY, linewidth=2, clip_on=False, zorder=4)


def _axes(axes: Axes, config: MelConfig) -> None:
    """Axes in seconds and hertz."""
    ticks = [hertz for hertz in TICKS_HZ if hertz < config.sample_rate / 2]
    bands = np.interp(ticks, mel.edges_hz(config), np.arange(-1, config.n_mels + 1))
    axes.set_yticks(bands, [summary.format_hertz(tick) for tick in ticks])
    axes.set_xlabel("seconds from the middle of the cell", color=INK)
    axes.tick_params(colors=INK, length=3)
    axes.spines[:].set_color(FAINT)


def _margins(above: Axes, beside: Axes, view: _View) -> None:
    """The effective field along time and along frequency, between the ends of the theoretical one."""
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
    """The legend in the free corner."""
    axes.axis("off")
    shares = [Patch(facecolor=colour, alpha=0.8) for colour in WARM]
    names = [f"{share:.0%} of the effect".replace("%", " %") for share in SHARES]
    axes.legend(
        [*shares, _outline((0.0, 0.0), 1.0, 1.0)], [*names, "field in theory"], loc="lower center",
        bbox_to_anchor=(0.5, 0.1), frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.4, borderpad=0,
    )  # fmt: skip


def _words(figure: Figure, network: NetworkToPlot, background: Passage, view: _View) -> None:
    """Title and numbers."""
    numbers = vars(network.summary.config)
    rho = ""
    if "rho_freq" in numbers:
        rho = f"   ρ {numbers['rho_freq']} along frequency, {numbers['rho_time']} along time"
    theory = f"In theory a cell depends on {view.theory()}"
    effect = f"{SHARES[-1]:.0%} of the effect lies within {view.largest_share()}".replace("%", " %")
    weights = "its own weights" if network.trained else "weights drawn at random"
    cell = f"energy of the gradient of a cell near {summary.format_hertz(summary.REFERENCE_HZ)}, mean of {CLIPS} clips"
    aside = f"{figures.label(background.name)}; {weights}; {cell}"
    for line, height, size, weight, colour in (
        (figures.label(network.name) + rho, 0.945, 15, "bold", INK),
        (f"{theory}; {effect}.", 0.905, 11, "normal", INK),
        (aside, 0.872, 9, "normal", FAINT),
    ):
        figure.text(0.07, height, line, fontsize=size, fontweight=weight, color=colour, parse_math=False)
