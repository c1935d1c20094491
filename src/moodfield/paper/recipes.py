"""Recipes, submissions and table of the paper, every number with its section."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from moodfield import errors
from moodfield.training.recipe import NamedRecipe, Recipe

WIDE_HOP = "§2.1: windows overlap by 25 % for submissions 4 and 5"
CALIBRATED = "*inferred*: the scores of submissions 4 and 5 are calibrated, as those of plain cross-entropy are"
BASELINE_MEL = ("mel.sample_rate=12000", "mel.n_fft=512", "mel.hop_length=256", "mel.n_mels=96", "mel.kind=plain")

RECIPES: dict[str, NamedRecipe] = {
    "fa_resnet": NamedRecipe("FA-ResNet with a regularized receptive field, a member of submission 2 (§3.2)", {}),
    "shake_fa_resnet": NamedRecipe(
        "Shake-Shake FA-ResNet, a member of submission 1 (§3.3)", {"net=shake_fa_resnet": "§3.3: Shake-Shake"}
    ),
    "cp_resnet": NamedRecipe(
        "ResNet with a regularized receptive field, Table 1's CP_ResNet and a member of submission 3 (§3.1)",
        {"net=cp_resnet": "§4.1: without frequency-awareness"},
    ),
    "cp_densenet": NamedRecipe(
        "DenseNet with a regularized receptive field, a member of submission 3 (§4.1)",
        {"net=cp_densenet": "§4.1: a DenseNet is among the ensemble"},
    ),
    "crnn": NamedRecipe(
        "Convolutions, then a recurrent summary of the whole track: submission 4 (§4.1)",
        {
            "net=crnn": "§4.1: like that of Choi et al., 2017",
            "mel.hop_length=1536": WIDE_HOP,
            "batch.clip_seconds=30": "*chosen by us*: it is for global structure (§4.1), and 30 s are eight steps",
            "loss.pos_weight=1": CALIBRATED,
        },
    ),
    "resnet34": NamedRecipe(
        "ResNet-34 as it is for images: submission 5 (§4.1)",
        {
            "net=resnet34": "§4.1: better in validation than 18 and 50 layers",
            "mel.hop_length=1536": WIDE_HOP,
            "loss.pos_weight=1": CALIBRATED,
        },
    ),
    "vgg": NamedRecipe(
        "The VGG-ish network of the organisers' baseline, on their mel, by the schedule of §2.2 instead of theirs",
        {
            "net=vgg": "Table 1: the organisers' baseline",
            **dict.fromkeys(BASELINE_MEL, "the mel of the organisers' baseline"),
            "batch.clip_seconds=29.13": "the 1,366 frames that the organisers' baseline takes",
            "batch.size=32": "that of the organisers' baseline",
            **dict.fromkeys(
                ("averaging.every=0", "augment.roll_frames=0", "augment.mixup_alpha=0", "loss.pos_weight=1"),
                "the organisers' baseline does without; *inferred* from their published script",
            ),
        },
    ),
}
"""name → recipe, as in `moodfield train --recipe NAME`"""


@dataclass(frozen=True)
class Member:
    """One network of a submission, trained once."""

    kind: str
    """name of its recipe"""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """settings that differ from that recipe: `a.b=v` → reason"""

    @property
    def name(self) -> str:
        """A name that is unique in its submission, such as `fa_resnet-rho_time-9-seed-43`."""
        changes = [setting.rpartition(".")[2].replace("=", "-") for setting in self.reasons]
        return "-".join([self.kind, *changes])

    @property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return RECIPES[self.kind].recipe.change(*self.reasons)


@dataclass(frozen=True)
class Submission:
    """A row of Table 1: networks whose scores are averaged, or a baseline without networks."""

    description: str
    """its networks, and the section of the paper"""
    validation: float | None
    """PR-AUC on the validation tracks, as printed; None where the paper has none"""
    test: float | None
    """PR-AUC on the test tracks, as printed"""
    members: tuple[Member, ...] = ()
    """its networks"""
    constant: Literal["popular", "random"] | None = None
    """its scores, if it has no networks"""
    starred: bool = False
    """whether Table 1 marks it as an ensemble of networks and snapshots; without the mark only the best
    epoch of a network counts, as *inferred*"""
    published: str | None = None
    """path of its published predictions below `submissions` in the task's repository"""


SEEDS = (42, 43, 44, 45, 46)
"""seeds of five networks; the first is that of the authors' code, the others are *chosen by us*"""
TIME_RHOS = (5, 7, 9, 12, 15)
"""ρ along time of five networks, that along frequency being 5; *chosen by us*: the paper has no numbers"""
OTHER_FIELD = "§4.1: receptive fields over time differ from network to network; by how much is *chosen by us*"
OTHER_SEED = "§4.1: networks begin with other weights"


def _five(kind: str) -> tuple[Member, ...]:
    """Five networks with the same field along frequency, other fields along time and other seeds."""
    return tuple(
        Member(kind, {f"net.rho_time={rho}": OTHER_FIELD, f"seed={seed}": OTHER_SEED})
        for rho, seed in zip(TIME_RHOS, SEEDS, strict=True)
    )


SUBMISSIONS: dict[str, Submission] = {
    "ShakeFAResNet": Submission(
        "Submission 1: the mean of five Shake-Shake FA-ResNets (§4.1)", 0.1132, 0.1480,
        _five("shake_fa_resnet"), starred=True, published="CP-JKU/1_shakefaresnet/predictions.npy",
    ),
    "FAResNet": Submission(
        "Submission 2: the same without Shake-Shake (§4.1); that they are five is *chosen by us*", 0.1149, 0.1463,
        _five("fa_resnet"), starred=True, published="CP-JKU/2_faresnet/predictions.npy",
    ),
    "Avg_ensemble": Submission(
        "Submission 3: the mean of all networks of 1 and 2, a regularized ResNet and a DenseNet (§4.1)", 0.1189, 0.1546,
        (*_five("shake_fa_resnet"), *_five("fa_resnet"), Member("cp_resnet"), Member("cp_densenet")),
        starred=True, published="CP-JKU/3_avg_ensemble/predictions.npy",
    ),
    "ResNet34": Submission(
        "Submission 5: one ResNet-34 as it is for images (§4.1)", 0.0924, 0.1021,
        (Member("resnet34"),), published="CP-JKU/5_resnet34/predictions.npy",
    ),
    "CRNN": Submission(
        "Submission 4: convolutions, then a recurrent summary (§4.1)", 0.0924, 0.1172,
        (Member("crnn"),), published="CP-JKU/4_crnn/predictions.npy",
    ),
    "CP_ResNet": Submission(
        "Not submitted: a single ResNet with a regularized receptive field (§4.1)", 0.1097, 0.1325,
        (Member("cp_resnet"),),
    ),
    "VGG-ish": Submission(
        "The organisers' baseline (Table 1)", None, 0.1077,
        (Member("vgg"),), published="baseline/vggish_predictions.npy",
    ),
    "popular": Submission(
        "The commonest tag of the training tracks for every track (Table 1)", None, 0.0319,
        constant="popular", published="baseline/popular_predictions.npy",
    ),
    "random": Submission(
        "Scores drawn at random; not in the paper, *chosen by us* as the floor", None, None, constant="random",
    ),
}  # fmt: skip
"""Table 1 in its order, by the names it has there; a name → its row"""

SMALL: dict[str, str] = {
    "mel.hop_length=1536": "a third of the frames",
    "net.width=16": "an eighth of the channels",
    "net.growth=8": "the same, of a DenseNet",
    **dict.fromkeys(
        ("schedule.warm_up=1", "schedule.constant=4", "schedule.decay=2", "schedule.final=3"),
        "10 epochs instead of 200",
    ),
    **dict.fromkeys(("schedule.peak=1e-3", "schedule.floor=1e-5"), "few steps need a high rate"),
    "averaging.every=1": "four averages of so few epochs",
}
"""settings that train any network in minutes, for trials: setting → reason; all *chosen by us*, none are the paper's"""
SMALL_MEMBERS = 2
"""networks of each submission at the small scale"""


def submission(name: str) -> tuple[str, Submission]:
    """The name of a submission in Table 1, and the submission.

    Args:
        name: its name in any case.

    Raises:
        UnknownNameError: no submission has this name.

    Example:
        >>> submission("faresnet")[0]
        'FAResNet'
    """
    titles = {title.casefold(): title for title in SUBMISSIONS}
    title = titles.get(name.casefold(), name)
    return title, errors.get_or_suggest(SUBMISSIONS, title, what="submission")


def small(recipe: Recipe) -> Recipe:
    """A recipe at the small scale; settings that it does not have are left out, and so is the organisers' mel.

    Example:
        >>> small(RECIPES["fa_resnet"].recipe).schedule.epochs
        10
    """
    paths = {setting.path for setting in recipe.settings()}
    if recipe.mel.kind == "plain":
        paths = {path for path in paths if not path.startswith("mel.")}
    return recipe.change(*(setting for setting in SMALL if setting.partition("=")[0] in paths))
