"""Evaluation of the bundled model: agreement with its teacher on held-out packages, with annotators, and speed.

    MOODFIELD_DATA=… python benchmarks/model.py [MODEL] [--run runs/measured]

MODEL must not be trained on the held-out packages of music/manifest.tsv; the bundled model is not. Prints the page
docs/model.md. Needs the music of `make music` and the teacher's checkpoint;
Emotify is used if it is there.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import people
from moodfield import audio, calibration, mel, parallel, tagger
from moodfield.card import Card, Provenance
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import manifest, model_card, targets
from moodfield.distillation.manifest import Music
from moodfield.distillation.model_card import ThresholdedScores
from moodfield.distillation.targets import TargetSource
from moodfield.distillation.teachers import published
from moodfield.errors import MoodfieldError
from moodfield.evaluation import bootstrap, metrics, threshold_selection
from moodfield.tagging import Tagging
from moodfield.training import log
from moodfield.training.pipeline import RunPaths

HERE = Path(__file__).parent
HEAD = """# Evaluation of the bundled model

By `benchmarks/model.py`, on {tracks} tracks of packages that it was not trained on. The model's card states its purpose
and limits; its README ends with this page and with `docs/students.md`, which has the reasons for its recipe. The
meaning of scores is in `docs/calibration.md`. The same tracks helped to choose the recipe, so the agreement is slightly
optimistic; they also helped to choose the thresholds, so that the goals for decisions are met on them: the last column
of *Decisions* has thresholds chosen on the training packages alone.
"""
GOALS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "share of tracks with one to five tags": ("at least 80 %", lambda value: value >= 0.8),
    "share of tracks with no tag": ("at most 5 %", lambda value: value <= 0.05),
    "different tags used": ("at least 30", lambda value: value >= 30),
    "share of tracks with the commonest tag": ("at most 30 %", lambda value: value <= 0.3),
}
"""goals of decisions: text, and a test of a value"""
CLEAREST = 5
"""tags of a track with the most evidence"""
SONGS, SHORTEST, LONGEST = 3, 200, 280
"""number of timed tracks, with their minimum and maximum duration in seconds"""
REPEATS = 3
"""repeats of every timing; the fastest counts"""
GOAL = 150
"""seconds of music per second on one core, from file to tags"""


@dataclass(frozen=True)
class Results:
    """Results of student and teacher on the held-out tracks."""

    tracks: tuple[Track, ...]
    """tracks that both could read"""
    card: Card
    """the student's"""
    metrics: Mapping[str, float]
    """those in the student's provenance"""
    taggings: tuple[Tagging, ...]
    """the student's"""
    teacher: np.ndarray
    """the teacher's scores with the student's calibration, tracks × tags"""
    teacher_decided: np.ndarray
    """the teacher's decisions with thresholds chosen on all music, tracks × tags"""

    @property
    def scores(self) -> np.ndarray:
        """The student's, tracks × tags."""
        return np.stack([item.scores for item in self.taggings])

    @property
    def decided(self) -> np.ndarray:
        """The student's decisions, tracks × tags."""
        return np.stack([item.scores > item.thresholds for item in self.taggings])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="default")
    parser.add_argument("--run", type=Path, help="its run, for the learning curve")
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument(
        "--teacher", type=Path, help="the organisers' checkpoint, if not vggish/ in MOODFIELD_DATA has it"
    )
    options = parser.parse_args()
    checkpoint = options.teacher or Path(os.environ.get("MOODFIELD_DATA", "")) / "vggish" / "best_model.pth"
    if not checkpoint.is_file():
        sys.exit(f"the teacher {checkpoint} is not here: name it with --teacher")
    music = manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")
    paths = RunPaths(options.music, options.store, Path(), parallel.cpu_count())
    results = _score(options.model, music, checkpoint, paths)
    print(HEAD.format(tracks=len(results.tracks)))
    _agreement(results)
    _decisions(results)
    emotions = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if emotions.is_dir():
        print()
        people.page({"the model": options.model}, emotions, checkpoint, paths.cache_dir)
    if options.run:
        _curve(options.run)
    _speed(options.model, results.tracks, options.music)


def _score(model: str, music: Music, checkpoint: Path, paths: RunPaths) -> Results:
    """Results for the held-out tracks that both could read."""
    source = TargetSource((published.teacher(published.VGGISH, checkpoint),))
    tracks = targets.compute_all(source.teachers, music.tracks, paths, lambda *_: None).tracks
    means = (windows.mean(axis=0) for windows in source.load(tracks, paths))
    logits = dict(zip(tracks, means, strict=True))
    [loaded] = tagger.load(model).models
    fitted, stacked = loaded.card.calibration, np.stack(list(logits.values()))
    is_heldout = np.array([track in music.heldout.tracks for track in logits])
    taught = ThresholdedScores(
        fitted.scores(stacked) if fitted else calibration.sigmoid(stacked), is_heldout, loaded.card.priors
    )
    heldout = [track for track in logits if track in music.heldout.tracks]
    tagged = tagger.tag_files([paths.audio_dir / item.path for item in heldout], model, jobs=paths.jobs)
    readable = [
        (track, tagging, scores)
        for track, (_, tagging), scores in zip(heldout, tagged, taught.scores[is_heldout], strict=True)
        if not isinstance(tagging, MoodfieldError)
    ]
    if not readable:
        sys.exit(
            f"none of {len(music.heldout.tracks)} held-out tracks could be read below {paths.audio_dir}; make music"
        )
    tracks, taggings, rows = zip(*readable, strict=True)
    values = Provenance.read(tagger.model_folder(model)).metrics
    decided = metrics.decide(np.stack(rows), taught.thresholds)
    return Results(tracks, loaded.card, values, taggings, np.stack(rows), decided)


def _agreement(results: Results) -> None:
    """Print the agreement by tag and by package."""
    ranks = metrics.spearman(results.teacher, results.scores)
    areas = threshold_selection.decision_average_precision(results.teacher_decided, results.scores)
    packages = np.array([track.path.partition("/")[0] for track in results.tracks])
    first = results.taggings[0]
    print("## Agreement with the teacher\n")
    print(
        f"Rank correlation (Spearman) over tracks: median tag {np.median(ranks):.3f}, worst {ranks.min():.3f}, mean "
        f"{ranks.mean():.3f}.\nPart of it is the difference between packages: the teacher's mean score of a track's "
        "package\nalone has "
        f"{_by_package(results.teacher, packages):.3f} in the median tag. The second table is within packages.\n"
    )
    print(
        f"PR-AUC with the teacher's decisions as truth, of the {np.isfinite(areas).sum()} tags that it decides for "
        f"{bootstrap.MIN_POSITIVES} tracks or more:\nmean {np.nanmean(areas):.3f}, worst {np.nanmin(areas):.3f}.\n"
    )
    print("Themes are in italics.\n")
    print("| tag | Spearman | PR-AUC | teacher decides | student decides |\n|---|---|---|---|---|")
    for tag in np.argsort(-ranks, kind="stable"):
        counts = results.teacher_decided[:, tag].sum(), results.decided[:, tag].sum()
        name = f"*{word}*" if (word := first.vocabulary[tag]) in first.theme_vocabulary else word
        area = "–" if np.isnan(areas[tag]) else f"{areas[tag]:.3f}"
        print(f"| {name} | {ranks[tag]:.3f} | {area} | {counts[0]} | {counts[1]} |")
    print(
        "\n| package | tracks | Spearman, median tag | both decide, of the tags that either does |\n|---|---|---|---|"
    )
    shared = threshold_selection.jaccard(results.decided, results.teacher_decided)
    for package in dict.fromkeys(packages.tolist()):
        rows = packages == package
        inside = np.nanmedian(metrics.spearman(results.teacher[rows], results.scores[rows]))
        print(f"| {package} | {rows.sum()} | {inside:.3f} | {shared[rows].mean():.0%} |")


def _by_package(teacher: np.ndarray, packages: np.ndarray) -> float:
    """The median tag's rank correlation of the teacher with its own means over packages."""
    logits = calibration.logit(teacher)
    means = np.stack([logits[packages == package].mean(axis=0) for package in packages])
    return float(np.median(metrics.spearman(teacher, means)))


def _decisions(results: Results) -> None:
    """Print statistics of decisions, of student and teacher, and with thresholds of the training packages."""
    print("\n## Decisions\n\n| | goal | the model | its teacher | the model, thresholds of the training packages |")
    print("|---|---|---|---|---|")
    statistics = [threshold_selection.decision_statistics(item) for item in (results.decided, results.teacher_decided)]
    for name, (goal, is_heldout) in GOALS.items():
        values = (
            *(item[name] for item in statistics),
            results.metrics.get(f"{name}, {model_card.TRAIN_THRESHOLDS}", np.nan),
        )
        words = (f"{value:.0f}" if "used" in name else f"{value:.2%}" for value in values)
        cells = (
            "–"
            if np.isnan(value)
            else word
            if is_heldout(value)
            else f"{word}, missed"  # no figure where the card has none
            for word, value in zip(words, values, strict=True)
        )
        print(f"| {name} | {goal} | {' | '.join(cells)} |")
    shared = threshold_selection.jaccard(results.decided, results.teacher_decided).mean()
    print(f"| tags that both decide, of those that either does | – | {shared:.0%} | – | – |")
    clear = (
        f"{(threshold_selection.rank_tags(scores, results.card.priors)[decided] < CLEAREST).mean():.0%}"
        for decided, scores in ((results.decided, results.scores), (results.teacher_decided, results.teacher))
    )
    print(f"| decided tags that are among their track's {CLEAREST} clearest | – | {' | '.join(clear)} | – |")


def _curve(run: Path) -> None:
    """Print the learning curve of the run."""
    epochs = [item for item in log.read(run).epochs if item.score is not None or item.averaged is not None]
    print("\n## Learning curve\n\nMean Spearman over tags, on a clip in every 30 s of the held-out tracks.\n")
    print("| epoch | network | averaged weights |\n|---|---|---|")
    for item in epochs:
        cells = ("–" if value is None else f"{value:.3f}" for value in (item.score, item.averaged))
        print(f"| {item.epoch} | {' | '.join(cells)} |")


def _speed(model: str, tracks: tuple[Track, ...], music: Path) -> None:
    """Print the time from file to tags on one core, with decoding as the lower bound."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    single = tagger.load(model, threads=1)
    [loaded] = single.models
    print(
        f"\n## Speed\n\nOne core, warm, fastest of {REPEATS}. The goal is {GOAL} × real time; decoding is the "
        "lower bound.\n"
    )
    print("| song | decode s | + mel s | + network s | × real time | × decoding |\n|---|---|---|---|---|---|")
    songs = [music / track.path for track in tracks if SHORTEST <= track.seconds <= LONGEST][:SONGS]
    for song in songs:
        rate, seconds = soundfile.info(song).samplerate, soundfile.info(song).duration

        def pieces(song: Path = song) -> list[mel.Mel]:
            return list(
                mel.stream(lambda: audio.blocks(song, sample_rate=loaded.card.mel.sample_rate), loaded.card.mel)
            )

        decode = _fastest(lambda song=song, rate=rate: [len(block) for block in audio.blocks(song, sample_rate=rate)])
        mels = _fastest(pieces)
        whole = _fastest(lambda song=song: single.tag(song))
        print(
            f"| {song.stem}, {seconds:.0f} s | {decode:.2f} | {mels:.2f} | {whole:.2f} | {seconds / whole:.0f} | "
            f"{whole / decode:.2f} |"
        )


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
