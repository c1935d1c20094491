"""Decisions relative to a whole catalogue: one pass of statistics, and one that decides part by part."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Int64

from moodfield import decisions
from moodfield.catalogue import dataset, rows, storage
from moodfield.catalogue.dataset import Catalogue
from moodfield.decisions import Rule, Usual
from moodfield.errors import CatalogueError

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "decisions"
"""folder of the decisions"""
STATISTICS = "_statistics.json"
"""readers of Parquet folders leave out names that begin with _"""
GROUP = 64
"""parts whose statistics are added at once"""


class Moments:
    """Mean and standard deviation of the logits of different tracks that come in groups; 8 bytes a track are kept."""

    def __init__(self, tags: int) -> None:
        self._keys: Int64[np.ndarray, "_tracks"] = np.zeros(0, np.int64)
        self._mean: Float64[np.ndarray, "tags"] = np.zeros(tags)
        self._squares: Float64[np.ndarray, "tags"] = np.zeros(tags)

    def add(self, logits: Float[np.ndarray, "tracks tags"]) -> None:
        """Add tracks; those with NaN, and those that are there already, do not count."""
        steps = decisions.rounded(logits)
        keys, first = np.unique(decisions.keys(steps), return_index=True)
        logits = np.clip(steps[first] / 10.0**decisions.DECIMALS, -decisions.MAX_LOGIT, decisions.MAX_LOGIT)
        places = np.searchsorted(self._keys, keys)
        last = np.minimum(places, len(self._keys) - 1)
        is_new = self._keys[last] != keys if len(self._keys) else np.full(len(keys), fill_value=True)
        if not is_new.any():
            return
        before, count = len(self._keys), int(is_new.sum())
        self._keys = np.insert(self._keys, places[is_new], keys[is_new])
        mean = logits[is_new].mean(axis=0)
        shift = mean - self._mean
        self._squares += ((logits[is_new] - mean) ** 2).sum(axis=0) + shift**2 * (before * count / (before + count))
        self._mean += shift * (count / (before + count))

    def usual(self) -> Usual | None:
        """What is usual among the tracks; None if there are none."""
        count = len(self._keys)
        return Usual(self._mean, np.sqrt(self._squares / count), count) if count else None


def decide(catalogue: Catalogue, advance: Callable[[], None] = lambda: None) -> int:
    """Decide relative to all tracks that are tagged, and write one file of decisions for every part.

    Files of an earlier run that was stopped are kept if no track has come since; others are removed first.

    Args:
        catalogue: The catalogue.
        advance: Called twice for every part.

    Returns:
        The number of different tracks.

    Raises:
        CatalogueError: No track is tagged.
        ConfigError: There are too few tracks for a model without reference statistics.
    """
    parts, moments, tagged = catalogue.committed(), Moments(len(catalogue.vocabulary)), 0
    for start in range(0, len(parts), GROUP):
        logits = np.concatenate(list(_read_logits(catalogue, parts[start : start + GROUP], advance)))
        tagged += int(np.isfinite(logits).all(axis=1).sum())
        moments.add(logits)
    own = moments.usual()
    if own is None:
        raise CatalogueError(f"{catalogue.folder} has no tagged tracks yet; run: moodfield catalogue tag")
    rule = catalogue.rule.relative_to_usual(own)
    done = _start(catalogue, own, tagged)
    for part in parts:
        if part not in done:
            dataset.write_part(catalogue, part, _decide(catalogue, rule, part), folder=FOLDER)
        advance()
    return own.tracks


def _read_logits(
    catalogue: Catalogue, parts: Sequence[int], advance: Callable[[], None]
) -> Iterator[Float[np.ndarray, "_tracks tags"]]:
    columns = [f"scores.{tag}" for tag in catalogue.vocabulary]
    for part in parts:
        yield rows.read_logits(dataset.read_part(catalogue, part, columns), catalogue.vocabulary)
        advance()


def _start(catalogue: Catalogue, own: Usual, tagged: int) -> set[int]:
    """The parts that are decided by these statistics of so many tagged rows; files with others are removed."""
    statistics = {"rows": tagged, "tracks": own.tracks, "mean": own.mean.tolist(), "std": own.std.tolist()}
    content = json.dumps(statistics, indent=1).encode()
    uri = storage.join(catalogue.folder, FOLDER, STATISTICS)
    committed = catalogue.committed(FOLDER)
    try:
        if storage.read(uri) == content:
            return set(committed)
    except FileNotFoundError:
        pass
    for part in committed:
        storage.remove(catalogue.part(part, FOLDER))
    storage.write(uri, content)
    return set()


def _decide(catalogue: Catalogue, rule: Rule, part: int) -> "pa.Table":
    """The decisions for the rows of a part."""
    import pyarrow as pa

    columns = ["source", *(f"scores.{tag}" for tag in catalogue.vocabulary)]
    table = dataset.read_part(catalogue, part, columns)
    logits = rows.read_logits(table, catalogue.vocabulary)
    decided = rows.decision_columns(catalogue, rule, logits)
    is_tagged = np.isfinite(logits).all(axis=1)
    schema = rows.schema(catalogue)
    fields = [schema.field(name) for name in ("source", "relative", *decided)]
    values = {"source": table["source"].to_pylist(), "relative": [True if tagged else None for tagged in is_tagged]}
    return rows.columns_to_table(values | decided, pa.schema(fields))
