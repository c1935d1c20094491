"""The paper as values: its recipes, its submissions, its table, every number with its section.

In: nothing. Out: recipes and submissions by name, and why each of their numbers is not the default.
Knows nothing of: data, or how a recipe is obeyed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from moodfield import errors
from moodfield.training.recipe import Recipe


@dataclass(frozen=True)
class Named:
    """A recipe with a name, and where it comes from."""

    what: str
    """what the recipe trains, and what the paper has it for"""
    reasons: Mapping[str, str]
    """settings in which it differs from the default recipe, in the form `a.b=v` → why"""

    @property
    def recipe(self) -> Recipe:
        """Everything decided before one run of it starts."""
        return Recipe().change(*self.reasons)


WIDE_HOP = "§2.1: windows overlap by 25 % for submissions 4 and 5"
CALIBRATED = "*inferred*: the scores of submissions 4 and 5 are calibrated, as those of plain cross-entropy are"
OWN_MEL = "the mel of the organisers' baseline"
PLAIN = "the organisers' baseline does without; *inferred* from their published script"

RECIPES: dict[str, Named] = {
    "fa_resnet": Named("FA-ResNet with a regularized receptive field, a member of submission 2 (§3.2)", {}),
    "shake_fa_resnet": Named(
        "Shake-Shake FA-ResNet, a member of submission 1 (§3.3)", {"net=shake_fa_resnet": "§3.3: Shake-Shake"}
    ),
    "cp_resnet": Named(
        "ResNet with a regularized receptive field, Table 1's CP_ResNet and a member of submission 3 (§3.1)",
        {"net=cp_resnet": "§4.1: without frequency-awareness"},
    ),
    "cp_densenet": Named(
        "DenseNet with a regularized receptive field, a member of submission 3 (§4.1)",
        {"net=cp_densenet": "§4.1: a DenseNet is among the ensemble"},
    ),
    "crnn": Named(
        "Convolutions, then a recurrent summary of the whole track: submission 4 (§4.1)",
        {
            "net=crnn": "§4.1: like that of Choi et al., 2017",
            "mel.hop_length=1536": WIDE_HOP,
            "batch.clip_seconds=30": "*chosen by us*: it is for global structure (§4.1), and 30 s are eight steps",
            "loss.pos_weight=1": CALIBRATED,
        },
    ),
    "resnet34": Named(
        "ResNet-34 as it is for images: submission 5 (§4.1)",
        {
            "net=resnet34": "§4.1: better in validation than 18 and 50 layers",
            "mel.hop_length=1536": WIDE_HOP,
            "loss.pos_weight=1": CALIBRATED,
        },
    ),
    "vgg": Named(
        "The VGG-ish network of the organisers' baseline, on their mel, by the schedule of §2.2 instead of theirs",
        {
            "net=vgg": "Table 1: the organisers' baseline",
            "mel.sample_rate=12000": OWN_MEL,
            "mel.n_fft=512": OWN_MEL,
            "mel.hop_length=256": OWN_MEL,
            "mel.n_mels=96": OWN_MEL,
            "mel.kind=plain": OWN_MEL,
            "batch.clip_seconds=29.13": "the 1,366 frames that the organisers' baseline takes",
            "batch.size=32": "that of the organisers' baseline",
            "averaging.every=0": PLAIN,
            "augment.roll_frames=0": PLAIN,
            "augment.mixup_alpha=0": PLAIN,
            "loss.pos_weight=1": PLAIN,
        },
    ),
}
"""name → recipe; `moodfield train --recipe NAME` trains one member"""


@dataclass(frozen=True)
class Member:
    """One network of a submission, trained once."""

    kind: str
    """the recipe that it is trained by"""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """settings in which it differs from that recipe, in the form `a.b=v` → why"""

    @property
    def name(self) -> str:
        """Short, and its own: `fa_resnet-rho_time-9-seed-43`."""
        own = [setting.rpartition(".")[2].replace("=", "-") for setting in self.reasons]
        return "-".join([self.kind, *own])

    @property
    def recipe(self) -> Recipe:
        """Everything decided before it is trained."""
        return RECIPES[self.kind].recipe.change(*self.reasons)


@dataclass(frozen=True)
class Submission:
    """A row of Table 1: networks whose scores are averaged, or a baseline that learns nothing."""

    what: str
    """what it is, and where the paper says so"""
    validation: float | None
    """PR-AUC on the validation tracks, as printed; none where nothing is"""
    test: float | None
    """PR-AUC on the test tracks, as printed"""
    members: tuple[Member, ...] = ()
    """its networks"""
    constant: Literal["popular", "random"] | None = None
    """what it says of every track, if it has no networks"""
    starred: bool = False
    """whether Table 1 marks it as an ensemble of networks and snapshots; without the mark a network speaks with its
    best epoch alone, as *inferred*"""
    published: str | None = None
    """its predictions, in the task's repository below `submissions`"""


SEEDS = (42, 43, 44, 45, 46)
"""of five networks; the first one is that of the authors' code, the others are *chosen by us*"""
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
        "Submission 1: the mean of five Shake-Shake FA-ResNets (§4.1)",
        0.1132,
        0.1480,
        _five("shake_fa_resnet"),
        starred=True,
        published="CP-JKU/1_shakefaresnet/predictions.npy",
    ),
    "FAResNet": Submission(
        "Submission 2: the same without Shake-Shake (§4.1); that they are five is *chosen by us*",
        0.1149,
        0.1463,
        _five("fa_resnet"),
        starred=True,
        published="CP-JKU/2_faresnet/predictions.npy",
    ),
    "Avg_ensemble": Submission(
        "Submission 3: the mean of all networks of 1 and 2, a regularized ResNet and a DenseNet (§4.1)",
        0.1189,
        0.1546,
        (*_five("shake_fa_resnet"), *_five("fa_resnet"), Member("cp_resnet"), Member("cp_densenet")),
        starred=True,
        published="CP-JKU/3_avg_ensemble/predictions.npy",
    ),
    "ResNet34": Submission(
        "Submission 5: one ResNet-34 as it is for images (§4.1)",
        0.0924,
        0.1021,
        (Member("resnet34"),),
        published="CP-JKU/5_resnet34/predictions.npy",
    ),
    "CRNN": Submission(
        "Submission 4: convolutions, then a recurrent summary (§4.1)",
        0.0924,
        0.1172,
        (Member("crnn"),),
        published="CP-JKU/4_crnn/predictions.npy",
    ),
    "CP_ResNet": Submission(
        "Not submitted: a single ResNet with a regularized receptive field (§4.1)",
        0.1097,
        0.1325,
        (Member("cp_resnet"),),
    ),
    "VGG-ish": Submission(
        "The organisers' baseline (Table 1)",
        None,
        0.1077,
        (Member("vgg"),),
        published="baseline/vggish_predictions.npy",
    ),
    "popular": Submission(
        "The commonest tag of the training tracks for every track (Table 1)",
        None,
        0.0319,
        constant="popular",
        published="baseline/popular_predictions.npy",
    ),
    "random": Submission(
        "Scores drawn at random; not in the paper, *chosen by us* as the floor", None, None, constant="random"
    ),
}
"""Table 1 in its order, by the names it has there; a name → its row"""

SMALL: dict[str, str] = {
    "mel.hop_length=1536": "a third of the frames",
    "net.width=16": "an eighth of the channels",
    "net.growth=8": "the same, of a DenseNet",
    "schedule.warm_up=1": "10 epochs instead of 200",
    "schedule.constant=4": "10 epochs instead of 200",
    "schedule.decay=2": "10 epochs instead of 200",
    "schedule.final=3": "10 epochs instead of 200",
    "schedule.peak=1e-3": "few steps are to be long ones",
    "schedule.floor=1e-5": "few steps are to be long ones",
    "averaging.every=1": "four averages of so few epochs",
}
"""the same in minutes, to see it work: settings → why; all *chosen by us*. Not what the paper did."""
SMALL_MEMBERS = 2
"""of each submission, at the small scale"""


def submission(name: str) -> tuple[str, Submission]:
    """A submission and its name as Table 1 has it, whatever the case it came in; refuses unknown ones."""
    known = {each.casefold(): each for each in SUBMISSIONS}
    if name.casefold() not in known:
        errors.get_or_suggest(SUBMISSIONS, name, what="submission")
    return known[name.casefold()], SUBMISSIONS[known[name.casefold()]]


def small(plan: Recipe) -> Recipe:
    """A recipe at the small scale; what its network has no number for stays, and so does a mel of another kind."""
    has = {each.path for each in plan.settings()}
    mel_is_theirs = plan.mel.kind == "plain"
    settings = [
        setting
        for setting in SMALL
        if setting.partition("=")[0] in has and not (mel_is_theirs and setting.startswith("mel."))
    ]
    return plan.change(*settings)
