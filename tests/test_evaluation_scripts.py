"""Parts of the scripts that evaluate models: goals, heads, copies, and the list of fifty tracks."""

import csv
import importlib
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from moodfield import audio, decisions
from moodfield.distillation import manifest

ROOT = Path(__file__).parent.parent
RATE = 44_100


@pytest.fixture
def script(monkeypatch, request) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module(request.param)


@pytest.mark.parametrize("script", ["measures"], indirect=True)
def test_offset_is_a_mean_over_tags_of_absolute_means(script):
    ensemble = np.zeros((4, 2))
    model = np.array([[1.0, -3.0], [-1.0, -3.0], [1.0, -3.0], [-1.0, -3.0]])
    assert script.offset(model, ensemble) == 1.5


@pytest.mark.parametrize("script", ["measures"], indirect=True)
@pytest.mark.parametrize(("value", "least", "missed"), [(0.4, True, True), (0.5, True, False), (0.6, False, True)])
def test_measures_name_missed_goals(script, value, least, missed):
    row = script.Measure("m", (value,), goal=script.Goal(0.5, least=least)).row()
    assert ("missed" in row) == missed
    assert "0.4999, missed" in script.Measure("m", (0.4999,), goal=script.Goal(0.5)).row()


@pytest.mark.parametrize("script", ["embedding"], indirect=True)
def test_heads_choose_their_strength_without_the_fold_that_is_scored(script, monkeypatch):
    monkeypatch.setattr(script, "STRENGTHS", (0.01, 0.1, 1.0))
    seen, choose = [], script.choose_strength
    monkeypatch.setattr(script, "choose_strength", lambda *arrays: seen.append(arrays) or choose(*arrays))
    generator = np.random.default_rng(0)
    folds, truth = np.arange(100) % 5, generator.random((100, 2)) < 0.4
    features = truth @ generator.normal(size=(2, 6)) + 0.1 * generator.normal(size=(100, 6))
    result = script.evaluate(features, truth, folds)
    assert min(result.pr_auc) > 0.9
    assert result.size == 6
    for fold, (given, labels, parts) in enumerate(seen):
        assert set(parts) == set(range(5)) - {fold}
        np.testing.assert_array_equal(given, features[folds != fold])
        np.testing.assert_array_equal(labels, truth[folds != fold])


@pytest.mark.parametrize("script", ["copies"], indirect=True)
@pytest.mark.parametrize("channels", [1, 2])
def test_copies_are_files_of_the_same_music(script, channels):
    pytest.importorskip("av")
    seconds = np.arange(3 * RATE) / RATE
    samples = np.stack([0.3 * np.sin(2 * np.pi * 440 * seconds)] * channels, axis=1).astype(np.float32)
    for copy, encode in script.COPIES.items():
        decoded = audio.read(encode(samples), sample_rate=22_050)
        strongest = np.fft.rfft(decoded.samples).__abs__().argmax() / decoded.duration
        assert decoded.duration == pytest.approx(3, abs=0.2), copy
        assert strongest == pytest.approx(440, abs=1), copy


@pytest.mark.parametrize("script", ["copies"], indirect=True)
def test_excerpts_are_the_middle_of_a_file(script, tmp_path):
    samples = np.zeros((100 * 8_000, 1), np.float32)
    samples[20 * 8_000 : 80 * 8_000] = 0.5
    soundfile.write(tmp_path / "a.wav", samples, 8_000)
    found = script.excerpt(tmp_path / "a.wav")
    assert len(found) == 60 * RATE
    assert found[RATE:-RATE].min() > 0.4


@pytest.mark.parametrize("script", ["fifty"], indirect=True)
def test_verdicts_count_for_the_tags_they_are_about(script):
    row = script.Row("a", "rock", "A", "", "calm, film", "right", "slow")
    assert script.current(row, _Decided(("calm", "film"))) == row
    assert script.current(row, _Decided(("film",))).verdict == ""


@pytest.mark.parametrize("script", ["fifty"], indirect=True)
def test_the_list_has_fifty_tracks_of_ten_kinds(script, tmp_path):
    rows = script.read(script.LIST, manifest.read_manifest(ROOT / "music" / "manifest.tsv"))
    assert len({row.path for row in rows}) == len(rows) == 50
    assert len({row.kind for row in rows}) >= 10
    script.write(tmp_path / "copy.tsv", rows)
    assert (tmp_path / "copy.tsv").read_bytes() == script.LIST.read_bytes()


@pytest.mark.parametrize("script", ["fifty"], indirect=True)
def test_unknown_verdicts_are_refused(script, tmp_path):
    row = next(csv.DictReader(io.StringIO(script.LIST.read_text("utf-8"), newline=""), delimiter="\t"))
    script.write(tmp_path / "list.tsv", [script.Row(**row | {"verdict": "nice"})])
    with pytest.raises(SystemExit, match="nice"):
        script.read(tmp_path / "list.tsv", manifest.read_manifest(ROOT / "music" / "manifest.tsv"))


class _Decided:
    """A tagging, as far as its decisions matter."""

    def __init__(self, decided: tuple[str, ...]) -> None:
        self.decided = decided


@pytest.mark.parametrize("script", ["rules"], indirect=True)
def test_the_adopted_rule_is_among_those_that_are_compared(script):
    generator = np.random.default_rng(0)
    music, songs = generator.normal(-4, 1, (300, 56)), generator.normal(-3, 1, (40, 56))
    kinds, everything = np.array(["rock"] * 250 + ["jazz"] * 50), np.ones(300, bool)
    data = script.Data(
        music=music, kinds=kinds, packages=kinds, heldout=~everything, excerpts=songs,
        percentiles=np.zeros((40, 56)), chosen=np.ones(40, bool), genres=np.array(["pop"] * 40),
        priors=np.full(56, 0.02), titles=("",) * 300,
    )  # fmt: skip
    usual = data.reference(everything)
    absolute = [rule.decide(data, everything, songs) for rule in script.RULES]
    assert any((decided == usual.decide(songs)).all() for decided in absolute)
    assert all(decided.sum(axis=1).max() <= decisions.MAX_TAGS for decided in absolute)
    np.testing.assert_array_equal(script.relative(usual, songs), decisions.shrink(usual, songs).decide(songs))


@pytest.mark.parametrize("script", ["decisions"], indirect=True)
def test_percentile_of_tracks_with_a_single_tag(script):
    decided = np.array([[True, False], [True, True], [False, True], [False, False]])
    percentiles = np.array([[0.25, 0.9], [0.9, 0.9], [0.9, np.nan], [0.9, 0.9]])
    assert script.of_single(decided, percentiles) == "0.250 (1)"
    assert script.of_single(decided[1:], percentiles[1:]) == "–"
    assert script.agreement(decided[:2], decided[1:3]) == 0.5


@pytest.mark.parametrize("script", ["decisions"], indirect=True)
def test_human_percentiles(script):
    felt = np.zeros((4, len(script.people.EMOTIONS)))
    felt[:, 2] = [0.1, 0.4, 0.2, 0.4]  # tenderness
    values = script.human_percentiles(felt)
    love, calm = (list(script.tags.MOODS_AND_THEMES).index(tag) for tag in ("love", "calm"))
    assert values[:, love].tolist() == [0.125, 0.75, 0.375, 0.75]
    assert values[:, calm].tolist() == [0.5] * 4
    assert np.isnan(values[:, list(script.tags.MOODS_AND_THEMES).index("corporate")]).all()
