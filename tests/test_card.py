"""A card says all that is needed, comes back as it was, and is refused in words when it cannot be right."""

import hashlib
import json
import math
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodfield import calibration, card
from moodfield.calibration import Calibration
from moodfield.card import Card
from moodfield.clips import AnyLength, FixedLength
from moodfield.errors import ModelError
from moodfield.mel import MelConfig

GOOD = Card(
    name="tiny",
    summary="A card for tests: ünïcödé, “quotes” and a\nnew line.",
    licence="CC0-1.0",
    vocabulary=("happy", "sad", "film"),
    themes=("film",),
    mel=MelConfig(n_mels=64),
    lengths=AnyLength(min_frames=17, stride=16, receptive_field=87, start=-35),
    net={"family": "cp_resnet", "width": 4, "frequency_aware": True, "share": 0.5, "whole": 1.0},
    thresholds=(0.5, math.inf, -math.inf),
    origin={"teacher": "nobody"},
    figures={"pr_auc": 0.1},
)
STATED = json.loads(card.dumps(GOOD))


def refusal(text: str | bytes) -> str:
    with pytest.raises(ModelError) as caught:
        card.loads(text, name="x/card.json")
    return str(caught.value)


def changed(**values: object) -> str:
    return json.dumps(STATED | values)


def without(name: str) -> str:
    return json.dumps({key: value for key, value in STATED.items() if key != name})


# ---------------------------------------------------------------- there and back


def test_a_card_comes_back_as_it_was():
    back = card.loads(card.dumps(GOOD))
    assert back == GOOD
    assert [type(value) for value in back.net.values()] == [str, int, bool, float, float]
    assert card.dumps(back) == card.dumps(GOOD)


def test_cards_for_fixed_lengths_and_plain_mels_come_back():
    fixed = replace(GOOD, lengths=FixedLength(1_366, 683), mel=MelConfig(12_000, 512, 0.5, 96, "plain"))
    assert card.loads(card.dumps(fixed)) == fixed


CALIBRATED = replace(GOOD, calibration=Calibration((0.5, 0.0, 1.5), (-1.0, 0.0, 2.0)), priors=(0.0, 0.01, 1.0))


def test_a_calibration_and_priors_come_back_and_older_cards_have_none():
    assert card.loads(card.dumps(CALIBRATED)) == CALIBRATED
    older = {key: value for key, value in STATED.items() if key not in ("calibration", "priors")}
    back = card.loads(json.dumps(older))
    assert back == GOOD
    assert (back.calibration, back.priors) == (None, None)


@pytest.mark.parametrize("before", [None, Calibration((0.5, 2.0, 1.0), (1.0, -1.0, 0.0))])
def test_a_card_that_is_calibrated_decides_the_same(before):
    described = replace(GOOD, thresholds=(0.3, 1e-6, math.inf), calibration=before)
    known = Calibration((0.7, 0.1, 1.5), (-0.5, 0.25, 3.0))
    found = card.calibrated(described, known, priors=(0.1, 0.2, 0.3))
    assert (found.calibration, found.priors) == (known, (0.1, 0.2, 0.3))
    assert found.thresholds[2] == math.inf
    logits = np.random.default_rng(0).normal(0, 8, (500, 3))
    old = (before.scores(logits) if before else calibration.sigmoid(logits)) > np.array(described.thresholds)
    np.testing.assert_array_equal(known.scores(logits) > np.array(found.thresholds), old)
    assert old[:, 1].any()
    assert not old[:, 0].all()
    back = card.calibrated(found, Calibration((1.0,) * 3, (0.0,) * 3))
    if before is None:
        np.testing.assert_allclose(back.thresholds, described.thresholds)


def test_always_stays_always_and_never_never():
    ends = replace(GOOD, thresholds=(-math.inf, 0.0, 1.0))
    assert card.calibrated(ends, Calibration((0.1,) * 3, (5.0,) * 3)).thresholds == (-math.inf, 0.0, 1.0)


def test_a_slope_of_nothing_cannot_carry_a_decision():
    with pytest.raises(ModelError, match="'tiny' could not decide it"):
        card.calibrated(GOOD, Calibration((1.0, 0.0, 1.0), (0.0,) * 3))
    with pytest.raises(ModelError, match="it calibrates 2 tags of 3"):
        replace(GOOD, calibration=Calibration((1.0,) * 2, (0.0,) * 2))


thresholds = st.floats(allow_nan=False)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), thresholds), min_size=1, max_size=5, unique_by=lambda each: each[0]))
def test_any_vocabulary_and_thresholds_come_back(tags):
    try:
        "".join(tag for tag, _ in tags).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair is no text
    names, levels = zip(*tags, strict=True)
    drawn = replace(GOOD, vocabulary=names, themes=names[:1], thresholds=levels)
    assert card.loads(card.dumps(drawn)) == drawn


def test_a_card_is_json_that_other_programs_read():
    assert STATED["vocabulary"] == ["happy", "sad", "film"]
    assert STATED["thresholds"] == [0.5, "Infinity", "-Infinity"]
    assert STATED["format"] == 1
    assert card.dumps(GOOD).endswith("}\n")
    json.loads(card.dumps(GOOD), parse_constant=pytest.fail)  # NaN and Infinity as bare words are no JSON


def test_what_has_a_default_may_be_left_out():
    assert card.loads(without("figures")) == replace(GOOD, figures={})


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("name", ["name", "vocabulary", "thresholds", "mel", "lengths", "licence", "net"])
def test_a_missing_field_is_refused(name):
    assert refusal(without(name)) == f"x/card.json is not a model card: {name}: Field required"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"colour": "red"}, "colour: Unexpected"),
        ({"mel": STATED["mel"] | {"hop": 512}}, "mel.hop: Unexpected"),
        ({"lengths": STATED["lengths"] | {"frames": 5}}, "lengths.AnyLength.frames: Unexpected"),
        ({"lengths": STATED["lengths"] | {"kind": "most"}}, "lengths.AnyLength.kind: Input should be 'any'"),
        ({"name": 7}, "name: Input should be a valid string"),
        ({"vocabulary": "happy"}, "vocabulary: Input should be a valid "),
        ({"mel": STATED["mel"] | {"sample_rate": "fast"}}, "mel.sample_rate: Input should be a valid integer"),
        ({"mel": STATED["mel"] | {"kind": "mfcc"}}, "mel.kind: Input should be 'perceptual' or 'plain'"),
        ({"net": {"layers": [1, 2]}}, "net.layers"),
        ({"thresholds": [0.5, "high", 0.5]}, "thresholds.1: Input should be a valid number"),
        ({"thresholds": None}, "thresholds: Input should be a valid "),
        ({"calibration": {"slopes": [1, 1, -1], "offsets": [0, 0, 0]}}, "no slope below 0"),
        ({"calibration": {"slopes": [1, 1, "NaN"], "offsets": [0, 0, 0]}}, "all finite"),
        ({"mel": STATED["mel"] | {"sample_rate": 10}}, "sample_rate < 1000"),
        ({"mel": STATED["mel"] | {"n_fft": 10**18}}, "beyond"),
        ({"mel": STATED["mel"] | {"n_mels": 10**18}}, "beyond"),
        ({"mel": STATED["mel"] | {"sample_rate": 10**4_000}}, "beyond"),
        ({"mel": STATED["mel"] | {"hop_length": 0}}, "hop_length"),
        ({"lengths": STATED["lengths"] | {"stride": 0}}, "at least 1"),
        ({"lengths": STATED["lengths"] | {"min_frames": 10**18}}, "beyond 1048576 frames"),
        ({"lengths": {"kind": "fixed", "frames": 10**18, "stride": 1}}, "at most 1048576"),
    ],
)
def test_unknown_fields_and_wrong_values_are_refused_by_name(values, said):
    message = refusal(changed(**values))
    assert message.startswith("x/card.json is not a model card: ")
    assert said in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": 2}, "it has format 2, this version of moodfield reads 1"),
        ({"vocabulary": ["happy", "happy", "film"]}, "names a tag twice"),
        ({"vocabulary": [], "thresholds": [], "themes": []}, "its vocabulary is empty"),
        ({"themes": ["film", "game", "epic"]}, "its themes epic, game are not in its vocabulary"),
        ({"thresholds": [0.5]}, "it has 1 thresholds for 3 tags"),
        ({"calibration": {"slopes": [1, 1], "offsets": [0, 0]}}, "it calibrates 2 tags of 3"),
        ({"priors": [0.1]}, "it has 1 priors for 3 tags"),
        ({"priors": [0.1, 1.1, 0.2]}, "a prior is not in 0 … 1"),
        ({"priors": [0.1, "NaN", 0.2]}, "a prior is not in 0 … 1"),
        ({"thresholds": [0.5] * 4}, "it has 4 thresholds for 3 tags"),
        ({"thresholds": [0.5, "NaN", 0.5]}, "a threshold is not a number"),
        ({"thresholds": [0.5, math.nan, 0.5]}, "a threshold is not a number"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(values, said):
    message = refusal(changed(**values))
    assert message.startswith("the card of 'tiny' cannot be used: ")
    assert said in message
    assert message.endswith("export the model again")


def test_all_contradictions_are_told_at_once():
    message = refusal(changed(format=9, thresholds=[0.5], themes=["epic"]))
    assert all(part in message for part in ("format 9", "1 thresholds", "themes epic"))


def test_a_card_made_in_python_is_checked_too():
    with pytest.raises(ModelError, match="2 thresholds for 3 tags"):
        replace(GOOD, thresholds=(0.5, 0.5))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[1]",
        b"{",
        b"\xff\xfe\x00{",
        b"[" * 1_000_000,
        b'{"mel":' * 1_000_000,
        b"9" * 5_000,
        b'{"format": ' + b"9" * 5_000 + b"}",
        json.dumps({f"key {n}": n for n in range(30_000)}).encode(),
        b'{"name": "\\ud800"}',
        bytes(range(256)) * 10_000,
        b'{"name": "' + b"x" * 5_000_000,
    ],
    ids=range(13),
)
def test_garbage_is_refused_fast_and_in_few_words(text):
    tracemalloc.start()
    began = time.perf_counter()
    message = refusal(text)
    took, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(message) < 2_500
    assert took < 5  # a tenth of it without the tracing
    assert peak < 1e8


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_card_with_anything_in_it_is_read_or_refused_but_never_crashes(data):
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
    )
    place = data.draw(st.sampled_from([STATED, STATED["mel"], STATED["lengths"]]))
    key, value = data.draw(st.sampled_from(sorted(place))), data.draw(junk)
    inner = {key: value}
    stated = STATED | (inner if place is STATED else {"mel" if place is STATED["mel"] else "lengths": place | inner})
    try:
        read = card.loads(json.dumps(stated))
    except ModelError:
        return
    assert card.loads(card.dumps(read)) == read


# ---------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file and a card that vouches for it."""
    (tmp_path / card.WEIGHTS).write_bytes(b"weights")
    card.write(replace(GOOD, sha256={card.WEIGHTS: hashlib.sha256(b"weights").hexdigest()}), tmp_path)
    return tmp_path


def vouch(folder: Path, name: str) -> None:
    card.write(replace(GOOD, sha256={name: hashlib.sha256(b"weights").hexdigest()}), folder)


def test_a_folder_whose_files_are_right_is_read(folder):
    assert replace(card.read(folder), sha256={}) == GOOD
    assert card.read(str(folder)) == card.read(folder)


def test_a_changed_file_is_refused(folder):
    (folder / card.WEIGHTS).write_bytes(b"weightz")
    with pytest.raises(ModelError, match=r"model.safetensors is damaged: its SHA-256 is [0-9a-f]{64}, its card says"):
        card.read(folder)


def test_a_missing_file_is_refused(folder):
    (folder / card.WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read .*No such file"):
        card.read(folder)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "."])
def test_a_file_outside_the_folder_is_refused_unread(folder, name):
    (folder.parent / "x").write_bytes(b"weights")
    vouch(folder, name)
    with pytest.raises(ModelError, match="outside its folder; export the model again"):
        card.read(folder)


@pytest.mark.parametrize("name", ["..", "", "a\0b", "x" * 300])
def test_a_name_that_no_file_has_is_refused(folder, name):
    vouch(folder, name)
    with pytest.raises(ModelError, match=r"cannot be read|outside its folder"):
        card.read(folder)


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"is no model folder: its card.json cannot be read \(No such file"):
        card.read(tmp_path)


def test_a_card_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / card.CARD).mkdir()
    with pytest.raises(ModelError, match=r"card.json cannot be read \(Is a directory"):
        card.read(tmp_path)


def test_an_endless_card_is_refused(tmp_path):
    (tmp_path / card.CARD).write_bytes(b" " * 2**20 + b"{}")
    with pytest.raises(ModelError, match=r"card.json is longer than 1048576 bytes"):
        card.read(tmp_path)


def test_a_refused_card_is_named(tmp_path):
    (tmp_path / card.CARD).write_text("{}")
    with pytest.raises(ModelError, match=r"card.json is not a model card: name: Field required; summary"):
        card.read(tmp_path)


def test_a_card_is_there_whole_or_not_at_all(folder, monkeypatch):
    before = (folder / card.CARD).read_bytes()

    def fail(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        card.write(replace(GOOD, name="other"), folder)
    assert (folder / card.CARD).read_bytes() == before
    monkeypatch.undo()
    card.write(replace(GOOD, name="other"), folder)
    assert card.read(folder).name == "other"
    assert sorted(path.name for path in folder.iterdir()) == [card.CARD, card.WEIGHTS]


def test_a_card_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises((UnicodeEncodeError, ValueError)):
        card.write(replace(GOOD, summary="\ud800"), tmp_path)
    assert not list(tmp_path.iterdir())
