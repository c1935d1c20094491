"""The models that have tagged a library, with all that decisions need without a network."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

import numpy as np

from moodfield import errors
from moodfield.decisions import Rule, Usual
from moodfield.errors import LibraryError
from moodfield.library import database
from moodfield.tagger import Tagger


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model, or the mean of several, that has tagged tracks of a library."""

    id: int
    """number in the database"""
    name: str
    """names of the models, joined by `+`"""
    vocabulary: tuple[str, ...]
    """tags, in the order of arrays"""
    themes: tuple[str, ...]
    """the tags that are themes"""
    rule: Rule
    """the rule of absolute decisions"""
    speed: float | None
    """seconds of audio that the last scan tagged in a second; None before the first one has ended"""
    tracks: int
    """number of tracks that are there and tagged by it"""

    def column(self, tag: str) -> int:
        """The number of a tag; raises `UnknownNameError` with the most similar tags."""
        return errors.get_or_suggest({name: number for number, name in enumerate(self.vocabulary)}, tag, what="tag")


def store(connection: sqlite3.Connection, tagger: Tagger) -> int:
    """Store a model unless the library has it; its number."""
    return insert(connection, describe(tagger))


def describe(tagger: Tagger) -> dict[str, Any]:
    """What decisions need of a model, as plain values for JSON: digest, name, vocabulary, themes, rule."""
    rule = {
        "thresholds": np.clip(tagger.thresholds, 0, 1).tolist(),
        "priors": None if tagger.priors is None else tagger.priors.tolist(),
        "usual": None if tagger.statistics is None else _dump(tagger.statistics),
    }
    return {
        "digest": tagger.digest, "name": name(tagger), "vocabulary": list(tagger.vocabulary),
        "themes": list(tagger.theme_vocabulary), "rule": rule,
    }  # fmt: skip


def insert(connection: sqlite3.Connection, values: dict[str, Any]) -> int:
    """Store a model by the values of `describe`, unless the library has it; its number."""
    texts = [json.dumps(values[name]) for name in ("vocabulary", "themes", "rule")]
    with database.transaction(connection):
        connection.execute(
            "INSERT INTO models (digest, name, vocabulary, themes, rule) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (values["digest"], values["name"], *texts),
        )
        (number,) = connection.execute("SELECT id FROM models WHERE digest = ?", (values["digest"],)).fetchone()
    return int(number)


def name(tagger: Tagger) -> str:
    """The names of a tagger's models, as taggings have them."""
    return "+".join(dict.fromkeys(model.card.name for model in tagger.models))


def read(connection: sqlite3.Connection) -> list[StoredModel]:
    """All models, the one with the most tracks first, of those with equally many the newest."""
    rows = connection.execute(
        "SELECT models.id, name, vocabulary, themes, rule, speed, count(tracks.id) AS n FROM models "
        "LEFT JOIN taggings ON taggings.model = models.id "
        "LEFT JOIN tracks ON tracks.id = taggings.track AND tracks.missing IS NULL "
        "GROUP BY models.id ORDER BY n DESC, models.id DESC"
    )
    return [
        StoredModel(
            number, label, database.strings(tags), database.strings(themes), rule(json.loads(text)), speed, count
        )
        for number, label, tags, themes, text, speed, count in rows
    ]


def choose(connection: sqlite3.Connection, wanted: str | None = None) -> StoredModel:
    """The newest model of a name; without one, the model with the most tracks. Raises `LibraryError`."""
    stored = read(connection)
    if not stored:
        raise LibraryError("the library has no tagged tracks; run: moodfield library scan FOLDER")
    if wanted is None:
        return stored[0]
    by_name = {model.name: model for model in sorted(stored, key=lambda model: model.id)}
    return errors.get_or_suggest(by_name, wanted, what="model of the library")


def rule(values: Any) -> Rule:
    """The rule in the values of `describe`."""
    priors = None if values["priors"] is None else np.array(values["priors"], np.float32)
    usual = None if values["usual"] is None else _load(values["usual"])
    return Rule(np.array(values["thresholds"], np.float32), priors, usual)


def _dump(usual: Usual) -> dict[str, object]:
    """What is usual, as plain values for JSON."""
    kinds = {label: _dump(kind) for label, kind in usual.kinds.items()}
    return {"mean": usual.mean.tolist(), "std": usual.std.tolist(), "tracks": usual.tracks, "kinds": kinds}


def _load(values: Any) -> Usual:
    """What is usual, from the values of `_dump`."""
    kinds = {label: _load(kind) for label, kind in values["kinds"].items()}
    return Usual(np.array(values["mean"], np.float64), np.array(values["std"], np.float64), values["tracks"], kinds)
