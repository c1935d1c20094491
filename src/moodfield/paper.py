"""The paper as values: its recipes, every number with its section.

In: nothing. Out: recipes by name, and why each of their numbers is not the default.
Knows nothing of: data, or how a recipe is obeyed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from moodfield.training import recipe
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
        return recipe.change(Recipe(), *self.reasons)


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
            "mel.overlap=0.25": WIDE_HOP,
            "batch.clip_seconds=30": "*chosen by us*: it is for global structure (§4.1), and 30 s are eight steps",
            "loss.pos_weight=1": CALIBRATED,
        },
    ),
    "resnet34": Named(
        "ResNet-34 as it is for images: submission 5 (§4.1)",
        {
            "net=resnet34": "§4.1: better in validation than 18 and 50 layers",
            "mel.overlap=0.25": WIDE_HOP,
            "loss.pos_weight=1": CALIBRATED,
        },
    ),
    "vgg": Named(
        "The VGG-ish network of the organisers' baseline, on their mel, by the schedule of §2.2 instead of theirs",
        {
            "net=vgg": "Table 1: the organisers' baseline",
            "mel.rate=12000": OWN_MEL,
            "mel.window=512": OWN_MEL,
            "mel.overlap=0.5": OWN_MEL,
            "mel.bands=96": OWN_MEL,
            "mel.kind=plain": OWN_MEL,
            "batch.clip_seconds=29.13": "the 1,366 frames that the organisers' baseline takes",
            "batch.size=32": "that of the organisers' baseline",
            "augment.roll_frames=0": PLAIN,
            "augment.mixup_alpha=0": PLAIN,
            "loss.pos_weight=1": PLAIN,
        },
    ),
}
"""name → recipe; `moodfield train --recipe NAME` trains one member"""
