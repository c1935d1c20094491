"""Measure by which features tracks of one package are nearest to each other: embeddings, logits, or the mel.

    python benchmarks/similarity.py LIBRARY --music FOLDER [--store FOLDER] [--mel]

LIBRARY is a database in which FOLDER, with a folder for each package, was scanned by the bundled model. For every track
of a package with 3 or more, all other tracks are ranked by similarity, and the average precision of those of its
package is computed; the mean is over the tracks of a package, then over packages. Copies of a file are one track.
Intervals are 95 % of 1,000 resamples of the packages. --mel adds statistics of mels, which are computed if STORE has
none. Prints a Markdown table.
"""

import argparse
from pathlib import Path

import numpy as np

import emotify
import moodfield
from moodfield.datasets.mtg_jamendo import Track
from moodfield.library import database, decided, models, similarity
from moodfield.training.mel_cache import MelCache

FEWEST = 3
"""tracks of a package"""
RESAMPLES = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--music", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--mel", action="store_true")
    options = parser.parse_args()
    ids, paths, digests, logits, embeddings = read(options.library, options.music.absolute())
    packages = np.array([path.relative_to(options.music.absolute()).parts[0] for path in paths])
    names, counts = np.unique(packages, return_counts=True)
    measured = names[counts >= FEWEST]
    features = {
        "embedding, whitened (what `library similar` uses)": similarity.whiten(embeddings),
        "embedding, standardized": unit(standardize(embeddings)),
        "embedding": unit(embeddings),
        "56 logits, standardized": unit(standardize(logits)),
        "56 logits, whitened": similarity.whiten(logits),
    }
    if options.mel:
        statistics = mel_statistics(paths, digests, options.store)
        features |= {
            "mean of each mel band, standardized": unit(standardize(statistics[:, : statistics.shape[1] // 7])),
            "statistics of each mel band, standardized": unit(standardize(statistics)),
        }
    features["chance"] = np.random.default_rng(0).normal(size=(len(ids), 8))
    print(f"## Similarity by package: {len(ids):,} tracks, {len(measured)} packages with {FEWEST} or more\n")
    print("| features | number | mean average precision | 95 % | first neighbour in package |")
    print("|---|--:|--:|---|--:|")
    results = {name: evaluate(unit(values), packages, measured) for name, values in features.items()}
    for name, (precision, first) in results.items():
        low, high = interval(precision)
        size = features[name].shape[1]
        print(f"| {name} | {size} | {precision.mean():.3f} | {low:.3f} … {high:.3f} | {first.mean():.1%} |")
    print("\nDifferences of the mean average precision of the first row to the others:\n")
    best = next(iter(results))
    for name, (precision, _) in results.items():
        if name != best:
            difference = results[best][0] - precision
            low, high = interval(difference)
            print(f"- {name}: {difference.mean():+.3f} ({low:+.3f} … {high:+.3f})")


def read(library: Path, music: Path) -> tuple[list[int], list[Path], list[bytes], np.ndarray, np.ndarray]:
    """Numbers, paths, digests, logits and embeddings of the tracks in a folder, each content once."""
    with database.read(library) as connection:
        model = models.choose(connection)
        rows = connection.execute(
            "SELECT id, path, digest, logits, embedding FROM taggings JOIN tracks ON tracks.id = track "
            "WHERE model = ? AND missing IS NULL GROUP BY digest ORDER BY path",
            (model.id,),
        ).fetchall()
    rows = [row for row in rows if Path(row[1]).is_relative_to(music)]
    ids, paths, digests, logits, embeddings = zip(*rows, strict=True)
    values = decided.matrix(logits, np.float32), decided.matrix(embeddings, np.float16).astype(np.float32)
    return list(ids), list(map(Path, paths)), list(digests), *values


def mel_statistics(paths: list[Path], digests: list[bytes], store: Path) -> np.ndarray:
    """Mean, standard deviation and percentiles of each band of the model's mel."""
    config = moodfield.load().models[0].card.mel
    cache = MelCache(store, config, "/")
    tracks = [Track(str(path), str(path), 0.0, ()) for path in paths]
    statistics = {}
    for track, result in cache.extract(tracks):
        if not isinstance(result, Path):
            raise SystemExit(str(result))
        statistics[track.path] = emotify.mel_statistics(np.load(result, mmap_mode="r", allow_pickle=False))
    return np.stack([statistics[track.path] for track in tracks])


def standardize(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def evaluate(values: np.ndarray, packages: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean average precision, and share of first neighbours, of every package."""
    precisions, firsts = [], []
    for package in measured:
        rows = np.flatnonzero(packages == package)
        similarities = values[rows] @ values.T
        similarities[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :-1]
        relevant = packages[order] == package
        ranks = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
        precisions.append(((ranks * relevant).sum(axis=1) / (len(rows) - 1)).mean())
        firsts.append(relevant[:, 0].mean())
    return np.array(precisions), np.array(firsts)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean over packages."""
    drawn = np.random.default_rng(0)
    means = values[drawn.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
