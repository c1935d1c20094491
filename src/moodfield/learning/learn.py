"""Learn tags from labelled tracks: a linear head on the embedding of a base model, as a model folder."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moodfield import tagger
from moodfield.card import Card, Provenance
from moodfield.errors import MoodfieldWarning
from moodfield.learning import embeddings, examples, export, head, network, results
from moodfield.learning import labels as label_lists
from moodfield.learning.embeddings import CACHE_DIR, Progress
from moodfield.learning.examples import GroupedBy
from moodfield.learning.export import Description
from moodfield.learning.head import Fit
from moodfield.learning.labels import LabelledTrack, Paths, TagLists
from moodfield.learning.results import TagResult
from moodfield.tagger import Tagger

UNNAMED = "learned"
"""name of a model without a folder"""


@dataclass(frozen=True, eq=False)
class Learned:
    """The result of learning: a model folder, and how good its model is."""

    card: Card
    """card of the model"""
    results: tuple[TagResult, ...]
    """how well every tag is predicted, and which tags were left out"""
    fit: Fit
    """the head and its cross-validation"""
    grouped_by: GroupedBy
    """what was not divided in the cross-validation"""
    unread: tuple[Path, ...]
    """files that could not be read, and were left out"""


def learn(
    paths: Paths,
    labels: TagLists,
    base: str | Path = "default",
    *,
    output: str | Path | None = None,
    name: str = "",
    keep_tags: bool = False,
    cache_dir: str | Path = CACHE_DIR,
    jobs: int = 1,
) -> Tagger:
    """Learn tags from labelled tracks.

    Args:
        paths: Audio files; if labels are a mapping also folders, whose other tracks are negatives.
        labels: Tags of every path, in their order; or a mapping from paths to tags. A track without a tag is a
            negative of it.
        base: Name, folder or run of a model with an embedding.
        output: Model folder to write, for `moodfield.load` and `moodfield tag --model`.
        name: Name of the model; by default that of the folder.
        keep_tags: Whether the model keeps the tags of its base: `Tagging.heads` then has these tags, by the name.
        cache_dir: Folder where embeddings are kept.
        jobs: Number of processes that decode audio.

    Returns:
        A tagger with these tags. A warning names each track that cannot be read, and each tag that cannot be learned
        or is not clearly better than chance.

    Raises:
        ConfigError: There is not one list of tags for every path, or the base has a head with this name already.
        DatasetError: Files are missing, or no tag has enough tracks with it and without it.
        ModelError: The base has no embedding.
        OutputError: The folder holds files that are not of a model.
    """
    labelled = label_lists.from_lists(paths, labels)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(output or Path(temporary, UNNAMED))
        learned = write_model(
            labelled, folder, base=base, name=name, keep_tags=keep_tags, cache_dir=cache_dir, jobs=jobs,
            progress=embeddings.warn,
        )  # fmt: skip
        for result in learned.results:
            if result.problem:
                warnings.warn(result.problem, MoodfieldWarning, stacklevel=2)
        return tagger.load(folder)


def write_model(
    tracks: Sequence[LabelledTrack],
    folder: str | Path,
    *,
    base: str | Path = "default",
    keep_tags: bool = False,
    cache_dir: str | Path = CACHE_DIR,
    jobs: int = 1,
    name: str = "",
    progress: Progress = lambda *_: None,
) -> Learned:
    """Learn tags from labelled tracks, and write the model folder, at once or not at all.

    Args:
        tracks: Labelled tracks, each path once.
        folder: Model folder to write; an existing one is replaced.
        base: Name, folder or run of a model with an embedding.
        keep_tags: Whether the model keeps the tags of its base; the learned ones are then a further head.
        cache_dir: Folder of the cache of embeddings.
        jobs: Number of processes that decode audio.
        name: Name of the model; by default that of the folder.
        progress: Called for every track, with the error if it cannot be read; such tracks are left out.

    Raises:
        DatasetError: No tag has enough tracks with it and without it.
        ModelError: The base has no embedding.
        OutputError: The folder holds files that are not of a model.
    """
    target = export.check_target(folder)
    examples.check(tracks)
    base_folder = tagger.model_folder(base)
    base_network = network.read(base_folder)
    if keep_tags:
        base_network.check_name(name or target.name)
    paths = [track.path for track in tracks]
    computed = embeddings.compute(base_folder, paths, cache_dir, jobs=jobs, progress=progress)
    data = examples.build(tracks, computed)
    obstacles = {
        tag: problem
        for tag, column in zip(data.vocabulary, data.truth.T, strict=True)
        if (problem := examples.obstacle(column, data.groups, data.grouped_by))
    }
    examples.raise_if_all(data.vocabulary, obstacles)
    learnable = [column for column, tag in enumerate(data.vocabulary) if tag not in obstacles]
    fit = head.fit(data.embeddings, data.truth[:, learnable], data.groups)
    by_tag = results.evaluate(data, fit, obstacles)
    description = Description(name or target.name, by_tag, data.grouped_by, keep_tags)
    card = export.write(base_network, Provenance.read(base_folder), fit, description, target)
    unread = tuple(path for path in paths if path not in computed)
    return Learned(card, by_tag, fit, data.grouped_by, unread)
