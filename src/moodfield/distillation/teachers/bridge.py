"""The bridge from genres and instruments to moods: logistic regressions learned from MTG-Jamendo.

A network trained for the top 50 tags of MTG-Jamendo then predicts the 56 moods and themes: its probabilities of genres
and instruments take the place of the true tags. The bridge is fitted on the TSVs alone, without audio.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from moodfield import calibration, errors, files, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split
from moodfield.errors import ConfigError, DatasetError, ModelError, ScoresError
from moodfield.evaluation import bootstrap, calibration_fit, metrics
from moodfield.evaluation.bootstrap import Resampled, System
from moodfield.evaluation.metrics import AnyArray, PerTag, Scores

TOP_50 = "autotagging_top50tags-"
"""prefix of the TSVs of the 50 most frequent tags: genres, instruments, and five moods"""
CATEGORIES = ("genre", "instrument")
"""categories of the tags that are inputs"""
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""L2 strengths that are tried: the inverse of the expected variance of a weight"""
BIAS_STRENGTH = 1e-3
"""strength with which a bias is pulled to 0, so that it is finite for a tag of all tracks; else without effect"""
WEIGHT = 0.5
"""weight of the bridge where it is added to another network's predictions"""
MAX_STEPS, MAX_HALVINGS, TOLERANCE = 100, 40, 1e-9
"""Newton steps of a fit at most; halvings of a step at most; decrease of the objective at which a fit has converged"""
REMEDY = "fit the bridge again, and give the file that was written then"

Matrix = Float64[np.ndarray, "_ _"]


@dataclass(frozen=True, eq=False)
class Bridge:
    """Logistic regressions from genres and instruments to moods and themes.

    The moods among the top 50 tags (*emotional*, *energetic*, *film*, *happy*, *relaxing*) are no inputs: learned from
    true tags, each would only copy itself. A network has its own logits for these five; an ensemble may add them, both
    standardized over the same tracks (`add_standardized`), to the logits of the bridge for the same tags.

    Example:
        >>> bridge = Bridge(("genre---metal",), ("calm", "heavy"), np.array([[-2.0, 3.0]]), np.array([-3.0, -4.0]))
        >>> bridge.logits(np.array([[0.0], [0.5]]))
        array([[-3. , -4. ],
               [-4. , -2.5]])

    """

    inputs: tuple[str, ...]
    """tags with their category, such as `genre---rock`, sorted"""
    tags: tuple[str, ...]
    """names of the moods and themes"""
    weights: Float64[np.ndarray, "_ tags"]
    """a row for every input"""
    bias: Float64[np.ndarray, "tags"]
    """logits of a track without any of the inputs"""

    def __post_init__(self) -> None:
        expected = len(self.inputs), len(self.tags)
        if self.weights.shape != expected or self.bias.shape != expected[1:] or not all(expected):
            raise ModelError(
                f"the bridge has weights of shape {self.weights.shape} and {self.bias.size} biases for {expected[0]} "
                f"inputs and {expected[1]} tags; expected a weight for each pair, and a bias for every tag"
            )
        if len(set(self.inputs)) < expected[0] or len(set(self.tags)) < expected[1]:
            raise ModelError("the bridge names an input or a tag twice; give every column its own name")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ModelError("not all weights and biases of the bridge are finite; fit it again")

    def logits(self, probabilities: Float[np.ndarray, "... _"]) -> Float64[np.ndarray, "... tags"]:
        """Logits of moods and themes.

        Args:
            probabilities: probability of every input, 0 … 1, as a network gives it; or 1 and 0 for true tags.
                Rescaling them to the shares of the tags changes little (`benchmarks/bridge.py`). The map is linear, so
                a network's logits may be given instead: they rank tracks about as well, with another location and
                scale of the result.

        Raises:
            ScoresError: if there is not one number per input.

        """
        if probabilities.shape[-1:] != (len(self.inputs),):
            raise ScoresError(
                f"probabilities of shape {probabilities.shape} for {len(self.inputs)} inputs; give one per input, last"
            )
        return np.asarray(probabilities @ self.weights + self.bias, np.float64)

    def save(self, path: str | Path) -> None:
        """Write the bridge as a JSON file, atomically."""
        files.write(Path(path), (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    def to_dict(self) -> dict[str, object]:
        """The bridge as JSON has it; `from_dict` reads it."""
        return {
            "inputs": self.inputs,
            "tags": self.tags,
            "bias": self.bias.tolist(),
            "weights": dict(zip(self.inputs, self.weights.tolist(), strict=True)),
        }


class BridgeFit(NamedTuple):
    """A fitted bridge, and its metrics on the validation tracks from true tags."""

    bridge: Bridge
    """the bridge, fitted on the training tracks"""
    strength: float
    """L2 strength with the least log loss on the validation tracks, one value for all tags"""
    log_loss: float
    """mean over the tags of the log loss on the validation tracks, in nats"""
    pr_auc: float
    """macro PR-AUC on the validation tracks"""


class Examples(NamedTuple):
    """The tracks of a split with moods and themes, and their genres and instruments."""

    split: Split
    """the tracks with their moods and themes, in the order of the TSV"""
    inputs: Bool[np.ndarray, "tracks _"]
    """which track has which genre or instrument; none for a track that is not in the other TSV"""


def load(path: str | Path) -> Bridge:
    """Load a bridge that `Bridge.save` has written; raises `ModelError` for any other file."""
    content = files.read_json(Path(path), dict, remedy=REMEDY, error=ModelError)
    try:
        return from_dict(content)
    except ModelError as fault:
        raise ModelError(f"{path}: {fault}") from fault


def from_dict(content: Mapping[str, Any]) -> Bridge:
    """The bridge that `Bridge.to_dict` describes; raises `ModelError` for anything else."""
    try:
        inputs, names = _names(content["inputs"]), _names(content["tags"])
        weights = np.array([content["weights"][name] for name in inputs])
        bias = np.array(content["bias"])
        if {weights.dtype.kind, bias.dtype.kind} - set("if"):
            raise TypeError("weights and biases are not numbers")
        return Bridge(inputs, names, weights.astype(np.float64), bias.astype(np.float64))
    except (KeyError, TypeError, ValueError, ModelError) as fault:
        raise ModelError(f"no bridge, or damaged ({fault}); {REMEDY}") from fault


def fit(splits: str | Path, *, strengths: Sequence[float] = STRENGTHS) -> BridgeFit:
    """Fit a bridge on the training tracks, with the L2 strength that has the least log loss on the validation tracks.

    Log loss is what the fit minimizes, and varies less with single tracks of rare tags than PR-AUC. One strength for
    all tags is as good as one per tag (`benchmarks/bridge.py`).

    Args:
        splits: folder of MTG-Jamendo's TSVs of one split: moods and themes, and top 50 tags.
        strengths: L2 strengths to try, above 0, from weak to strong.

    Raises:
        DatasetError: if a TSV is missing or wrong, or the top 50 tags have no genres and instruments.
        ConfigError: if there are no strengths, or one is not above 0.

    """
    if not strengths or not min(strengths) > 0:
        raise ConfigError(f"strengths={tuple(strengths)}; give one or more, all above 0")
    names = input_names(splits)
    train = read(splits, "train", names)
    validation = read(splits, "validation", names, vocabulary=train.split.vocabulary)
    candidates = []
    for strength in strengths:
        bridge = Bridge(names, train.split.vocabulary, *_regressions(train.inputs, train.split.truth, strength))
        logits = bridge.logits(validation.inputs.astype(np.float64))
        loss = calibration_fit.log_loss(validation.split.truth, calibration.sigmoid(logits)).mean()
        pr_auc = metrics.evaluate(validation.split.truth, logits).macro["PR-AUC"]
        candidates.append(BridgeFit(bridge, float(strength), float(loss), pr_auc))
    return min(candidates, key=lambda candidate: candidate.log_loss)


def evaluate(
    bridge: Bridge,
    splits: str | Path,
    predictions: AnyArray,
    *,
    weight: float = WEIGHT,
    generator: np.random.Generator | None = None,
    n_resamples: int = bootstrap.N_RESAMPLES,
) -> dict[str, Resampled]:
    """Evaluate a bridge from true tags on the test split, alone and added to the predictions of another system.

    True tags are an upper bound of what a network's tags can give.

    Args:
        bridge: the bridge.
        splits: folder of the TSVs, see `fit`.
        predictions: scores of the other system, 0 … 1, tracks × tags, in the order of the TSV.
        weight: of the bridge in the sum, see `add_standardized`.
        generator: draws the resamples; by default one with a fixed seed.
        n_resamples: bootstrap resamples of the tracks.

    Returns:
        Resampled metrics of `predictions`, `bridge` and `sum`; see `bootstrap.intervals` and `bootstrap.compare`.

    Raises:
        ScoresError: if predictions are not as described.
        DatasetError: if a TSV is missing or wrong.

    """
    test = read(splits, "test", bridge.inputs, vocabulary=bridge.tags)
    predictions = metrics.check_scores(predictions, "predictions", like=test.split.truth)
    if predictions.min() < 0 or predictions.max() > 1:
        raise ScoresError("predictions are outside 0 … 1; apply the sigmoid to logits")
    other = calibration.logit(predictions)
    logits = bridge.logits(test.inputs.astype(np.float64))
    scores = {"predictions": other, "bridge": logits, "sum": add_standardized(other, logits, weight=weight)}
    systems = [System(test.split.truth, values, tags=bridge.tags) for values in scores.values()]
    generator = np.random.default_rng(0) if generator is None else generator
    resampled = bootstrap.bootstrap(systems, generator=generator, n_resamples=n_resamples)
    return dict(zip(scores, resampled, strict=True))


def add_standardized(first: Scores, second: Scores, *, weight: float = WEIGHT) -> Scores:
    """The logits of a system plus `weight` times those of a second, both standardized per tag over the tracks.

    Example:
        >>> add_standardized(np.array([[0.0], [4.0]]), np.array([[3.0], [1.0]]), weight=0.5).ravel()
        array([-0.5,  0.5])

    """
    return _standardize(first) + weight * _standardize(second)


def input_names(splits: str | Path) -> tuple[str, ...]:
    """The genres and instruments among the top 50 tags, with their category, sorted; from the TSV for training."""
    path = Path(splits) / f"{TOP_50}train.tsv"
    cells = {cell.strip() for line in mtg_jamendo.read_lines(path)[1:] for cell in line.split("\t")[5:]}
    names = sorted(cell for cell in cells if cell.partition(tags.SEPARATOR)[0] in CATEGORIES)
    tags.vocabulary(names)  # raises if a genre and an instrument share a name: the tracks have names alone
    return tuple(names)


def read(splits: str | Path, part: str, inputs: Sequence[str], *, vocabulary: Sequence[str] | None = None) -> Examples:
    """Read the tracks of a split that have moods or themes, with their genres and instruments.

    Args:
        splits: folder of the TSVs, see `fit`.
        part: `train`, `validation` or `test`.
        inputs: names of genres and instruments, with their category.
        vocabulary: names of the moods and themes; by default those of the TSV, sorted.

    Raises:
        DatasetError: if a TSV is missing or wrong.

    """
    split = mtg_jamendo.read(Path(splits) / f"{mtg_jamendo.MOODTHEME}{part}.tsv", vocabulary=vocabulary)
    path = Path(splits) / f"{TOP_50}{part}.tsv"
    tracks, faults = mtg_jamendo.parse(path)
    if faults:
        raise DatasetError(f"{path} cannot be used: {errors.join_errors(faults)}")
    tags_of = {track.id: frozenset(track.tags) for track in tracks}
    names = tags.vocabulary(inputs)
    rows = [[name in tags_of.get(track.id, ()) for name in names] for track in split.tracks]
    return Examples(split, np.array(rows, bool))


def _regressions(
    inputs: Bool[np.ndarray, "tracks _"], truth: Bool[np.ndarray, "tracks tags"], strength: float
) -> tuple[Matrix, PerTag]:
    """Weights and biases of penalized maximum likelihood, by Newton's method for all tags at once.

    Tracks with equal inputs count as one pattern, of which there are far fewer.
    """
    patterns, member = np.unique(inputs, axis=0, return_inverse=True)
    counts = np.bincount(member.ravel()).astype(np.float64)[:, None]
    positives = np.zeros((len(patterns), truth.shape[1]))
    np.add.at(positives, member.ravel(), truth)
    design = np.hstack([patterns.astype(np.float64), np.ones((len(patterns), 1))])
    penalty = np.append(np.full(inputs.shape[1], strength), BIAS_STRENGTH)[:, None]

    def objective(parameters: Matrix) -> PerTag:
        logits = design @ parameters
        loss = (counts * np.logaddexp(0, logits) - positives * logits).sum(axis=0)
        return np.asarray(loss + (penalty * np.square(parameters)).sum(axis=0) / 2)

    parameters = np.zeros((design.shape[1], truth.shape[1]))
    parameters[-1] = calibration.logit((truth.sum(axis=0) + 0.5) / (len(truth) + 1))
    best = objective(parameters)
    for _ in range(MAX_STEPS):
        probabilities = calibration.sigmoid(design @ parameters)
        gradient = design.T @ (counts * probabilities - positives) + penalty * parameters
        weights = counts * probabilities * (1 - probabilities)
        hessians = np.stack([(design * column[:, None]).T @ design for column in weights.T])
        step = np.linalg.solve(hessians + np.diag(penalty[:, 0]), gradient.T[:, :, None])[:, :, 0].T
        decrease = (gradient * step).sum(axis=0)  # as predicted by the quadratic model
        if decrease.max() < TOLERANCE:
            break
        parameters, best = _line_search(objective, parameters, best, step, decrease)
    return parameters[:-1], parameters[-1]


def _line_search(
    objective: Callable[[Matrix], PerTag], parameters: Matrix, best: PerTag, step: Matrix, decrease: PerTag
) -> tuple[Matrix, PerTag]:
    """Parameters after a step that is halved, tag by tag, until the objective decreases, and their objective."""
    size = np.ones(len(best))
    for _ in range(MAX_HALVINGS):
        candidate = parameters - size * step
        values = objective(candidate)
        is_lower = values <= best - size * decrease / 4 + TOLERANCE
        if is_lower.all():
            return candidate, values
        size = np.where(is_lower, size, size / 2)
    return parameters, best  # the possible decrease is less than rounding


def _standardize(values: Scores) -> Scores:
    """Values with mean 0 and standard deviation 1 over the tracks, per tag; 0 where they are constant."""
    return np.asarray(metrics.divide(values - values.mean(axis=0), values.std(axis=0), empty=0.0))


def _names(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise TypeError("inputs and tags are not lists of names")
    return tuple(values)
