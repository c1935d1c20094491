"""Cards and provenance: read and written without loss; files that are damaged, invalid or of another format raise."""

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
from moodfield.card import Card, Example, Head, LogitStatistics, Provenance
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
)
EXTENDED = replace(
    GOOD,
    outputs={"logits": 3, "embedding": 128, "genres": 2},
    heads=(Head("genres", ("rock", "jazz"), (0.5, math.inf), Calibration((0.5, 1.0), (0.0, 0.0)), (0.1, 0.2)),),
    statistics=LogitStatistics(100, (-2.0, -3.0, 0.0), (1.0, 0.5, 0.0)),
    reference_logits=(0.25, -1.0, 2.0),
)
VALUES = json.loads(GOOD.to_json())


def error_of(text: str | bytes) -> str:
    with pytest.raises(ModelError) as caught:
        Card.from_json(text, name="x/card.json")
    return str(caught.value)


HEAD = {"name": "genres", "vocabulary": ["rock", "jazz"], "thresholds": [0.5, 0.5]}


def changed(**values: object) -> str:
    return json.dumps(VALUES | values)


def without(name: str) -> str:
    return json.dumps({key: value for key, value in VALUES.items() if key != name})


# ---------------------------------------------------------------- round trips


def test_json_round_trip():
    back = Card.from_json(GOOD.to_json())
    assert back == GOOD
    assert [type(value) for value in back.net.values()] == [str, int, bool, float, float]
    assert back.to_json() == GOOD.to_json()


def test_json_round_trip_with_fixed_lengths_and_a_plain_mel():
    fixed = replace(GOOD, lengths=FixedLength(1_366, 683), mel=MelConfig(12_000, 512, 256, 96, "plain"))
    assert Card.from_json(fixed.to_json()) == fixed


CALIBRATED = replace(GOOD, calibration=Calibration((0.5, 0.0, 1.5), (-1.0, 0.0, 2.0)), priors=(0.0, 0.01, 1.0))


def test_optional_fields_round_trip_and_may_be_missing():
    for full in (CALIBRATED, EXTENDED):
        assert Card.from_json(full.to_json()) == full
    required = ("name", "summary", "licence", "vocabulary", "themes", "mel", "lengths", "net", "thresholds")
    assert Card.from_json(json.dumps({key: VALUES[key] for key in required})) == GOOD


def test_provenance_round_trip(tmp_path):
    provenance = Provenance(
        origin={"teacher": "a network"},
        training_data={"tracks": "12"},
        metrics={"PR-AUC": 0.1, "undefined": math.inf},
        limits=("Not for sale.",),
        examples=(Example("a song", ("happy",), ()),),
    )
    provenance.write(tmp_path)
    assert Provenance.read(tmp_path) == provenance
    assert Provenance.from_json("{}") == Provenance()
    for text, token in (('{"figures": {}}', "figures"), ('{"format": 1}', "format 1"), ("[", "provenance.json")):
        with pytest.raises(ModelError, match=token):
            Provenance.from_json(text)
    with pytest.raises(ModelError, match=r"provenance\.json"):
        Provenance.read(tmp_path / "none")


@pytest.mark.parametrize("before", [None, Calibration((0.5, 2.0, 1.0), (1.0, -1.0, 0.0))])
def test_recalibration_keeps_decisions(before):
    described = replace(GOOD, thresholds=(0.3, 1e-6, math.inf), calibration=before)
    new = Calibration((0.7, 0.1, 1.5), (-0.5, 0.25, 3.0))
    card_ = described.recalibrated(new, priors=(0.1, 0.2, 0.3))
    assert (card_.calibration, card_.priors) == (new, (0.1, 0.2, 0.3))
    assert card_.thresholds[2] == math.inf
    logits = np.random.default_rng(0).normal(0, 8, (500, 3))
    old = (before.scores(logits) if before else calibration.sigmoid(logits)) > np.array(described.thresholds)
    np.testing.assert_array_equal(new.scores(logits) > np.array(card_.thresholds), old)
    assert old[:, 1].any()
    assert not old[:, 0].all()
    back = card_.recalibrated(Calibration((1.0,) * 3, (0.0,) * 3))
    if before is None:
        np.testing.assert_allclose(back.thresholds, described.thresholds)


def test_recalibration_keeps_thresholds_that_decide_always_or_never():
    ends = replace(GOOD, thresholds=(-math.inf, 0.0, 1.0))
    assert ends.recalibrated(Calibration((0.1,) * 3, (5.0,) * 3)).thresholds == (-math.inf, 0.0, 1.0)


def test_recalibration_with_a_slope_of_0_raises():
    with pytest.raises(ModelError, match="slope of 0"):
        GOOD.recalibrated(Calibration((1.0, 0.0, 1.0), (0.0,) * 3))
    with pytest.raises(ModelError, match="calibration has 2 tags"):
        replace(GOOD, calibration=Calibration((1.0,) * 2, (0.0,) * 2))


thresholds = st.floats(allow_nan=False)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), thresholds), min_size=1, max_size=5, unique_by=lambda each: each[0]))
def test_any_vocabulary_and_thresholds_round_trip(tags):
    try:
        "".join(tag for tag, _ in tags).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair is no text
    names, levels = zip(*tags, strict=True)
    drawn = replace(GOOD, vocabulary=names, themes=names[:1], thresholds=levels)
    assert Card.from_json(drawn.to_json()) == drawn


def test_a_card_is_json_that_other_programs_read():
    assert VALUES["vocabulary"] == ["happy", "sad", "film"]
    assert VALUES["thresholds"] == [0.5, "Infinity", "-Infinity"]
    assert VALUES["format"] == card.FORMAT == 2
    assert GOOD.to_json().endswith("}\n")
    json.loads(GOOD.to_json(), parse_constant=pytest.fail)  # NaN and Infinity as bare words are no JSON


# ---------------------------------------------------------------- invalid values


@pytest.mark.parametrize("name", ["name", "vocabulary", "thresholds", "mel", "lengths", "licence", "net"])
def test_a_missing_field_raises(name):
    assert error_of(without(name)) == f"x/card.json is invalid: {name}: Field required"


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ({"colour": "red"}, "colour: Unexpected"),
        ({"mel": VALUES["mel"] | {"hop": 512}}, "mel.hop: Unexpected"),
        ({"lengths": VALUES["lengths"] | {"frames": 5}}, "lengths.AnyLength.frames: Unexpected"),
        ({"lengths": VALUES["lengths"] | {"kind": "most"}}, "lengths.AnyLength.kind: Input should be 'any'"),
        ({"name": 7}, "name: Input should be a valid string"),
        ({"vocabulary": "happy"}, "vocabulary: Input should be a valid "),
        ({"mel": VALUES["mel"] | {"sample_rate": "fast"}}, "mel.sample_rate: Input should be a valid integer"),
        ({"mel": VALUES["mel"] | {"kind": "mfcc"}}, "mel.kind: Input should be 'perceptual' or 'plain'"),
        ({"net": {"layers": [1, 2]}}, "net.layers"),
        ({"thresholds": [0.5, "high", 0.5]}, "thresholds.1: Input should be a valid number"),
        ({"thresholds": None}, "thresholds: Input should be a valid "),
        ({"calibration": {"slopes": [1, 1, -1], "offsets": [0, 0, 0]}}, "no slope below 0"),
        ({"calibration": {"slopes": [1, 1, "NaN"], "offsets": [0, 0, 0]}}, "all finite"),
        ({"mel": VALUES["mel"] | {"sample_rate": 10}}, "sample_rate < 1000"),
        ({"mel": VALUES["mel"] | {"n_fft": 10**18}}, "beyond"),
        ({"mel": VALUES["mel"] | {"n_mels": 10**18}}, "beyond"),
        ({"mel": VALUES["mel"] | {"sample_rate": 10**4_000}}, "beyond"),
        ({"mel": VALUES["mel"] | {"hop_length": 0}}, "hop_length"),
        ({"lengths": VALUES["lengths"] | {"stride": 0}}, "≥ 1"),
        ({"lengths": VALUES["lengths"] | {"min_frames": 10**18}}, "1048576 frames"),
        ({"lengths": {"kind": "fixed", "frames": 10**18, "stride": 1}}, "1048576"),
    ],
)
def test_unknown_fields_and_wrong_values_are_named(values, token):
    message = error_of(changed(**values))
    assert message.startswith("x/card.json is invalid: ")
    assert token in message


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ({"format": 3}, "format 3"),
        ({"vocabulary": ["happy", "happy", "film"]}, "names a tag twice"),
        ({"vocabulary": [], "thresholds": [], "themes": []}, "its vocabulary is empty"),
        ({"themes": ["film", "game", "epic"]}, "themes epic, game"),
        ({"thresholds": [0.5]}, "it has 1 thresholds for 3 tags"),
        ({"calibration": {"slopes": [1, 1], "offsets": [0, 0]}}, "calibration has 2 tags"),
        ({"reference_logits": [0.0]}, "1 reference_logits"),
        ({"reference_logits": [0.0, "NaN", 0.0]}, "3 reference_logits"),
        ({"outputs": {"logits": 4}}, "3 logits"),
        ({"outputs": {"embedding": 0}}, "1 …"),
        ({"outputs": {"features": 8}}, "outputs features"),
        ({"heads": [HEAD]}, "'genres' has 2 tags"),
        ({"heads": [HEAD], "outputs": {"genres": 3}}, "output 3 channels"),
        ({"heads": [HEAD, HEAD], "outputs": {"genres": 2}}, "same name"),
        ({"heads": [HEAD | {"name": "logits"}]}, "same name"),
        ({"heads": [HEAD | {"thresholds": [0.5]}], "outputs": {"genres": 2}}, "head 'genres': it has 1 thresholds"),
        ({"statistics": {"tracks": 0, "mean": [0] * 3, "std": [1] * 3}}, "statistics"),
        ({"statistics": {"tracks": 9, "mean": [0] * 3, "std": [1] * 2}}, "statistics"),
        ({"statistics": {"tracks": 9, "mean": [0] * 3, "std": [1, 1, -1]}}, "statistics"),
        ({"statistics": {"tracks": 9, "mean": [0, 0, "NaN"], "std": [1] * 3}}, "statistics"),
        ({"priors": [0.1]}, "it has 1 priors for 3 tags"),
        ({"priors": [0.1, 1.1, 0.2]}, "a prior is not in 0 … 1"),
        ({"priors": [0.1, "NaN", 0.2]}, "a prior is not in 0 … 1"),
        ({"thresholds": [0.5] * 4}, "it has 4 thresholds for 3 tags"),
        ({"thresholds": [0.5, "NaN", 0.5]}, "a threshold is not a number"),
        ({"thresholds": [0.5, math.nan, 0.5]}, "a threshold is not a number"),
    ],
)
def test_a_contradictory_card_raises(values, token):
    message = error_of(changed(**values))
    assert "'tiny'" in message
    assert token in message


def test_all_contradictions_are_listed():
    message = error_of(changed(format=9, thresholds=[0.5], themes=["epic"]))
    assert all(part in message for part in ("format 9", "1 thresholds", "themes epic"))


def test_a_card_made_in_python_is_validated():
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
def test_garbage_raises_quickly_with_a_short_message(text):
    tracemalloc.start()
    start = time.process_time()
    message = error_of(text)
    cpu_seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(message) < 2_500
    assert cpu_seconds < 10  # CPU time of this process, about 0.5 s without tracemalloc
    assert peak < 1e8


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_value_is_read_or_raises_model_error(data):
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda changes: st.lists(changes, max_size=3),
    )
    section = data.draw(st.sampled_from([VALUES, VALUES["mel"], VALUES["lengths"]]))
    key, value = data.draw(st.sampled_from(sorted(section))), data.draw(junk)
    changes = {key: value}
    values = VALUES | (
        changes if section is VALUES else {"mel" if section is VALUES["mel"] else "lengths": section | changes}
    )
    try:
        card_ = Card.from_json(json.dumps(values))
    except ModelError:
        return
    assert Card.from_json(card_.to_json()) == card_


# ---------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file, and a card with its checksum."""
    (tmp_path / card.WEIGHTS).write_bytes(b"weights")
    replace(GOOD, sha256={card.WEIGHTS: hashlib.sha256(b"weights").hexdigest()}).write(tmp_path)
    return tmp_path


def write_checksum_of(folder: Path, name: str) -> None:
    replace(GOOD, sha256={name: hashlib.sha256(b"weights").hexdigest()}).write(folder)


def test_a_folder_is_read(folder):
    assert replace(Card.read(folder), sha256={}) == GOOD
    assert Card.read(str(folder)) == Card.read(folder)


def test_a_changed_file_raises(folder):
    (folder / card.WEIGHTS).write_bytes(b"weightz")
    with pytest.raises(ModelError, match="is damaged"):
        Card.read(folder)


def test_a_missing_file_raises(folder):
    (folder / card.WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"safetensors.*No such"):
        Card.read(folder)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "."])
def test_a_file_outside_the_folder_is_not_read(folder, name):
    (folder.parent / "x").write_bytes(b"weights")
    write_checksum_of(folder, name)
    with pytest.raises(ModelError, match="outside"):
        Card.read(folder)


@pytest.mark.parametrize("name", ["..", "", "a\0b", "x" * 300])
def test_an_impossible_file_name_raises(folder, name):
    write_checksum_of(folder, name)
    with pytest.raises(ModelError, match=r"cannot be read|outside"):
        Card.read(folder)


def test_a_folder_without_a_card_raises(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        Card.read(tmp_path)


def test_a_card_that_is_a_folder_raises(tmp_path):
    (tmp_path / card.CARD).mkdir()
    with pytest.raises(ModelError, match="Is a directory"):
        Card.read(tmp_path)


def test_a_long_card_raises(tmp_path):
    (tmp_path / card.CARD).write_bytes(b" " * 2**20 + b"{}")
    with pytest.raises(ModelError, match="longer than"):
        Card.read(tmp_path)


def test_an_invalid_card_is_named(tmp_path):
    (tmp_path / card.CARD).write_text("{}")
    with pytest.raises(ModelError, match=r"card\.json is invalid"):
        Card.read(tmp_path)


def test_a_folder_of_format_1_raises_one_clear_error(tmp_path):
    (tmp_path / card.CARD).write_text(json.dumps(VALUES | {"format": 1, "proof": [], "figures": {}}))
    with pytest.raises(ModelError, match="expected format 2") as caught:
        Card.read(tmp_path)
    assert "figures" not in str(caught.value)


def test_a_card_is_written_atomically(folder, monkeypatch):
    before = (folder / card.CARD).read_bytes()

    def fail(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        replace(GOOD, name="other").write(folder)
    assert (folder / card.CARD).read_bytes() == before
    monkeypatch.undo()
    replace(GOOD, name="other").write(folder)
    assert Card.read(folder).name == "other"
    assert sorted(path.name for path in folder.iterdir()) == [card.CARD, card.WEIGHTS]


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises((UnicodeEncodeError, ValueError)):
        replace(GOOD, summary="\ud800").write(tmp_path)
    assert not list(tmp_path.iterdir())
