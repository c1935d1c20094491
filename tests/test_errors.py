"""Exceptions can be pickled, and unknown names get suggestions."""

import pickle  # processes exchange exceptions this way

import pytest

from moodfield import errors
from moodfield.errors import AudioError, MoodfieldError, UnknownNameError

NAMES = {"cp_resnet": 1, "fa_resnet": 2, "vgg": 3}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MoodfieldError)]


def test_a_known_name_is_looked_up():
    assert errors.get_or_suggest(NAMES, "vgg", what="network") == 3


def test_a_misspelt_name_gets_the_nearest_names():
    with pytest.raises(UnknownNameError, match="fa_resnet or cp_"):
        errors.get_or_suggest(NAMES, "fa_resnt", what="network")


def test_an_unlike_name_gets_all_names():
    with pytest.raises(UnknownNameError, match=r"fa_resnet, vgg$"):
        errors.get_or_suggest(NAMES, "zzz", what="network")


def test_every_error_has_one_base_class():
    assert len(KINDS) >= 9
    assert all(issubclass(kind, Exception) and kind.__doc__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_can_be_pickled(kind):
    error = kind("missing", "no such file") if kind is AudioError else kind("no such file")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert str(copy) == str(error) == "no such file"
    assert getattr(copy, "reason", None) == getattr(error, "reason", None)


def test_the_reason_is_pickled():
    assert pickle.loads(pickle.dumps(AudioError("silent", "no sound"))).reason == "silent"  # noqa: S301
