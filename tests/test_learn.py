"""Learning: labels from every kind of file, linear heads, model folders without torch, and `moodfield.learn`."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

import moodfield
import noises
from models import Exported
from moodfield import card, nets, tagger, verify
from moodfield.card import Card, Provenance
from moodfield.datasets import mtg_jamendo
from moodfield.decoding import metadata
from moodfield.decoding.metadata import Metadata
from moodfield.engine import OnnxEngine, TorchEngine
from moodfield.errors import ConfigError, DatasetError, ModelError, MoodfieldError, MoodfieldWarning, OutputError
from moodfield.evaluation.bootstrap import Interval
from moodfield.learning import embeddings, examples, head, labels, learn, network
from moodfield.learning.embeddings import Embedding
from moodfield.learning.head import LinearHead
from moodfield.learning.labels import LabelledTrack
from moodfield.learning.learn import Learned
from moodfield.learning.results import TagResult

FILES = {card.WEIGHTS, card.NETWORK, card.README, card.PROVENANCE, card.CARD}


@pytest.fixture(scope="module")
def learned(cp_model: Exported, music: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned the two kinds; not to be changed."""
    folder = tmp_path_factory.mktemp("learned") / "mine"
    learn.write_model(labels.read([music]), folder, base=cp_model.folder, cache_dir=cache)
    return folder


def write_csv(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def tags_of(tracks: Sequence[LabelledTrack]) -> dict[str, set[str]]:
    return {track.path.name: set(track.tags) for track in tracks}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files that exist, without audio."""
    for name in ("a.wav", "b.wav", "ü.wav"):
        (tmp_path / name).write_text(name)
    return tmp_path


# ---------------------------------------------------------------- labels


def test_a_csv_has_a_path_and_tags(folder):
    path = write_csv(folder / "l.csv", "Path,Tags", "a.wav,calm; very  sad", "", 'b.wav,"mood/theme---calm"', "ü.wav,")
    expected = {"a.wav": {"calm", "very sad"}, "b.wav": {"calm"}, "ü.wav": set()}
    assert tags_of(labels.read([path])) == expected
    assert tags_of(labels.read([write_csv(path, "a.wav,calm;very sad", "b.wav,calm", "ü.wav,")])) == expected
    (folder / "elsewhere").mkdir()
    moved = shutil.move(path, folder / "elsewhere")
    assert tags_of(labels.read([moved], audio_dir=folder)) == expected


def test_lines_of_a_track_are_joined(folder):
    path = write_csv(folder / "l.csv", "a.wav,calm", "a.wav,sad", f"{folder / 'b.wav'},calm")
    assert tags_of(labels.read([path])) == {"a.wav": {"calm", "sad"}, "b.wav": {"calm"}}


def test_a_tsv_of_mtg_jamendo_has_artists(folder):
    rows = ("1\tartist_1\talbum\ta.wav\t60.0\tmood/theme---calm\tmood/theme---sad", "2\tartist_2\talbum\tb.wav\t60.0")
    path = write_csv(folder / "l.tsv", "\t".join(mtg_jamendo.HEADER), *rows)
    tracks = labels.read([path])
    assert tags_of(tracks) == {"a.wav": {"calm", "sad"}, "b.wav": set()}
    assert [track.artist for track in tracks] == ["artist_1", "artist_2"]


@pytest.mark.parametrize(("suffix", "encoding"), [("m3u", "utf-8"), ("m3u8", "utf-8-sig"), ("M3U", "cp1252")])
def test_the_name_of_a_playlist_is_a_tag(folder, suffix, encoding):
    lists = folder / "lists"
    lists.mkdir()
    lines = ("#EXTM3U", "#EXTINF:60,A - B", r"..\a.wav", "", f"file://{folder}/b.wav", "ü.wav")
    write_csv(lists / f"very calm.{suffix}", *lines, encoding=encoding)
    write_csv(lists / "sad.m3u8", "../a.wav")
    expected = {"a.wav": {"very calm", "sad"}, "b.wav": {"very calm"}, "ü.wav": {"very calm"}}
    assert tags_of(labels.read([lists], audio_dir=folder)) == expected
    assert tags_of(labels.read(sorted(lists.iterdir()), audio_dir=folder)) == expected


def test_the_name_of_a_folder_is_a_tag(tmp_path):
    for name in ("calm/a.wav", "calm/album/b.ogg", "sad/c.mp3", ".hidden/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "calm" / "cover.jpg").touch()
    assert tags_of(labels.read([tmp_path])) == {"a.wav": {"calm"}, "b.ogg": {"calm"}, "c.mp3": {"sad"}}


@pytest.mark.parametrize(
    ("lines", "token"),
    [
        (["a.wav"], "path,tag;tag"),
        (["a.wav,calm", ",sad"], "line 2"),
        (['a.wav,"calm'], "path,tag;tag"),
        (["a.wav,", "b.wav,;"], "no track has a tag"),
        (["a.wav,calm", "a.wav,"], "with tags"),
        (["a.wav,calm", *(f"{number}.wav,calm" for number in range(9))], "9 of 10"),
        (["a.wav," + ";".join(map(str, range(5_000)))], "5,000"),
        (["x" * 5_000 + ".wav,calm"], "1 of 1"),
        (["\x00.wav,calm"], "l.csv"),
        ([], "no track"),
    ],
)
def test_invalid_labels_raise(folder, lines, token):
    with pytest.raises(DatasetError) as error:
        labels.read([write_csv(folder / "l.csv", *lines)])
    assert token in str(error.value)
    assert "l.csv" in str(error.value)
    assert str(error.value).count(".wav") <= 8, "a few are listed"


def test_labels_that_are_not_text_raise(folder):
    for content, token in (
        ("ä.wav,calm".encode("latin-1"), "UTF-8"),
        (b"\xff\xfea\0", "UTF-8"),
        (b"RIFF\0\1", "l.csv"),
    ):
        (folder / "l.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=token):
            labels.read([folder / "l.csv"])


@pytest.mark.parametrize("name", ["none.csv", "none.m3u8", "none", "x" * 5_000])
def test_missing_labels_raise(folder, name):
    with pytest.raises(DatasetError, match=name[:9]):
        labels.read([folder / name])


def test_empty_playlists_streams_and_folders_raise(folder):
    write_csv(folder / "calm.m3u", "#EXTM3U")
    write_csv(folder / "sad.m3u", "http://radio.example/sad")
    with pytest.raises(DatasetError, match=r"calm\.m3u has.*radio"):
        labels.read([folder])
    (folder / "empty" / "calm").mkdir(parents=True)
    with pytest.raises(DatasetError, match="calm"):
        labels.read([folder / "empty"])
    with pytest.raises(DatasetError, match="neither"):
        labels.read([folder / "empty" / "calm"])


def test_labels_from_lists(folder):
    paths = [folder / "a.wav", str(folder / "b.wav")]
    expected = {"a.wav": {"calm", "sad"}, "b.wav": {"calm"}}
    assert tags_of(labels.from_lists(paths, [["calm", "sad"], "calm"])) == expected
    by_path = {folder / "a.wav": ("calm", "sad"), str(folder / "b.wav"): "calm"}
    assert tags_of(labels.from_lists(paths, by_path)) == expected
    assert tags_of(labels.from_lists(folder, by_path)) == expected | {"ü.wav": set()}


@pytest.mark.parametrize("wrong", ["calm", [["calm"]]])
def test_lists_of_another_length_raise(folder, wrong):
    with pytest.raises(ConfigError):
        labels.from_lists([folder / "a.wav", folder / "b.wav"], wrong)


def test_missing_files_in_lists_raise(folder):
    with pytest.raises(DatasetError, match=r"none\.wav"):
        labels.from_lists([folder / "none.wav"], [["calm"]])


# ---------------------------------------------------------------- examples


def label(path: Path | str, *names: str, artist: str = "") -> LabelledTrack:
    return LabelledTrack(Path(path), frozenset(names), artist)


def embed(*paths: Path | str) -> dict[Path, Embedding]:
    return {Path(path): Embedding(str(path), np.ones(4, np.float32)) for path in paths}


def test_unlabelled_tracks_are_negatives_of_a_single_class(folder):
    calm = [label(folder / "a.wav", "calm")]
    completed = examples.add_unlabelled(calm, folder)
    assert tags_of(completed.tracks) == {"a.wav": {"calm"}, "b.wav": set(), "ü.wav": set()}
    assert (completed.n_unlabelled, completed.n_available) == (2, 2)
    assert examples.add_unlabelled(calm, None).tracks == tuple(calm)
    both = [*calm, label(folder / "b.wav", "sad")]
    assert examples.add_unlabelled(both, folder).tracks == tuple(both), "each has negatives"


def test_of_many_unlabelled_tracks_some_are_drawn(folder, monkeypatch):
    monkeypatch.setattr(examples, "MAX_UNLABELLED", 1)
    completed = examples.add_unlabelled([label(folder / "a.wav", "calm")], folder)
    assert (len(completed.tracks), completed.n_unlabelled, completed.n_available) == (2, 1, 2)
    assert completed == examples.add_unlabelled([label(folder / "a.wav", "calm")], folder)


def test_copies_are_one_track_with_all_tags():
    computed = embed("a", "b", "c")
    computed[Path("b")] = replace(computed[Path("b")], content="a")
    data = examples.build([label("a", "calm"), label("b", "sad"), label("c"), label("unread", "calm")], computed)
    assert data.vocabulary == ("calm", "sad")
    assert data.truth.tolist() == [[True, True], [False, False]]
    assert len(set(data.groups)) == 2


def test_without_readable_tracks_there_are_no_examples():
    with pytest.raises(DatasetError, match="2 tracks"):
        examples.build([label("a", "calm"), label("b")], {})


def test_groups_are_artists_or_albums_or_tracks(monkeypatch):
    files = {"a": Metadata("X", "1"), "b": Metadata("x", "2"), "c": Metadata("y", "2"), "d": Metadata()}
    monkeypatch.setattr(metadata, "read", lambda path: files[str(path)])
    names, tracks = tuple(files), [label(name) for name in files]
    data = examples.build(tracks, embed(*names))
    assert (data.grouped_by, len(set(data.groups)), data.groups[0]) == ("artist", 3, data.groups[1])
    assert examples.build([label(name, artist=name) for name in names], embed(*names)).grouped_by == "album"
    files |= {name: Metadata("x", files[name].album) for name in "abc"}
    data = examples.build(tracks, embed(*names))
    assert (data.grouped_by, len(set(data.groups)), data.groups[1]) == ("album", 3, data.groups[2])
    files |= dict.fromkeys("abcd", Metadata("x", "1"))
    data = examples.build(tracks, embed(*names))
    assert (data.grouped_by, len(set(data.groups))) == ("track", 4)


@pytest.mark.parametrize(
    ("tag", "groups", "token"),
    [
        ([1, 1, 0, 0, 0], "abcde", "2 tracks with"),
        ([1, 1, 1, 1, 0], "abcde", "1 track without"),
        ([1, 1, 1, 0, 0, 0], "aaabcd", "one artist"),
        ([1, 1, 1, 0, 0, 0], "abcddd", "one artist"),
        ([1, 1, 1, 0, 0, 0], "aabccd", ""),
    ],
)
def test_obstacles_to_learning_a_tag(tag, groups, token):
    problem = examples.obstacle(np.array(tag, bool), groups, "artist")
    assert token in problem
    assert bool(problem) == bool(token)


def test_metadata_of_files(tmp_path):
    for suffix in ("wav", "flac", "ogg", "mp3"):
        path = noises.save(tmp_path / f"a.{suffix}", high=True, seed=0, artist="An  Artist", album="Unknown Album")
        assert metadata.read(path) == Metadata("An Artist", ""), suffix
    assert metadata.read(noises.save(tmp_path / "b.wav", high=True, seed=0)) == Metadata()
    assert metadata.read(tmp_path / "none.wav") == Metadata()
    (tmp_path / "text.wav").write_text("no audio")
    assert metadata.read(tmp_path / "text.wav") == Metadata()


# ---------------------------------------------------------------- head


def separable(tracks: int = 40, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings whose first channel has the first tag, and a second tag that they do not have."""
    drawn = np.random.default_rng(seed)
    truth = np.stack([np.arange(tracks) % 4 == 0, drawn.permutation(tracks) % 2 == 0], axis=1)
    values = drawn.normal(size=(tracks, 8))
    values[:, 0] += 4 * truth[:, 0]
    return (values * 10 + 3).astype(np.float32), truth


def test_a_head_is_logistic_regression_on_standardized_embeddings():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, truth = separable()
    logits = head.fit_head(values, truth, 0.1).logits(values)
    for column, tag in enumerate(truth.T):
        reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=5_000))
        np.testing.assert_allclose(logits[:, column], reference.fit(values, tag).decision_function(values), atol=1e-3)


def test_a_tag_without_negatives_has_constant_logits():
    values, truth = separable()
    truth[:, 0] = True
    assert not head.fit_head(values, truth, 0.1).logits(values)[:, 0].any()


def test_a_fit_is_calibrated_by_out_of_fold_logits():
    values, truth = separable(80)
    groups = [str(number // 2) for number in range(80)]
    fit = head.fit(values, truth, groups)
    folds = head.split(truth, groups)
    assert all(folds[::2] == folds[1::2])
    np.testing.assert_array_equal(fit.logits, head.out_of_fold(values, truth, folds, fit.strength))
    scores = fit.calibration.scores(fit.logits)
    np.testing.assert_allclose(scores.mean(axis=0), truth.mean(axis=0), atol=0.05)
    assert (fit.thresholds >= truth.mean(axis=0)).all()
    data = examples.Examples(("good", "random"), truth, values, tuple(groups), "artist")
    good, random = learn.results.evaluate(data, fit, {})
    assert (good.positives, good.tracks, good.chance) == (20, 80, 0.25)
    assert good.pr_auc_interval.low > 0.8
    assert (good.problem, good.roc_auc > 0.9) == ("", True)
    assert "random" in random.problem


def test_every_part_has_positives_of_rare_tags():
    truth = np.stack([np.arange(50) < 5, np.arange(50) % 10 == 9], axis=1)
    folds = head.split(truth, [str(number) for number in range(50)])
    counts = np.array([truth[folds == fold].sum(axis=0) for fold in range(head.FOLDS)])
    assert (counts > 0).mean() > 0.8


def test_problems_are_described_in_words():
    result = TagResult("calm", 2, 20, obstacle="2 tracks with it")
    assert "calm cannot be learned" in result.problem
    result = TagResult("calm", 8, 20, roc_auc=0.4, roc_auc_interval=Interval(0.2, 0.6))
    assert "chance" in result.problem
    assert "includes" in replace(result, roc_auc=0.6, roc_auc_interval=Interval(0.4, 0.8)).problem
    assert not replace(result, roc_auc=0.8, roc_auc_interval=Interval(0.6, 0.9)).problem
    assert not replace(result, roc_auc=0.8, roc_auc_interval=Interval(np.nan, np.nan)).problem


# ---------------------------------------------------------------- embeddings


def test_embeddings_are_those_of_tagging_and_are_cached(cp_model, music, tmp_path, monkeypatch):
    paths = [music / "high" / "0.wav", music / "low" / "0.wav"]
    counted: list[tuple[str, bool]] = []

    def compute() -> dict[Path, Embedding]:
        counted.clear()
        return embeddings.compute(
            cp_model.folder, paths, tmp_path, progress=lambda track, error: counted.append((track.id, error is None))
        )

    computed = compute()
    loaded = tagger.load(cp_model.folder, threads=1)
    for path in paths:
        np.testing.assert_allclose(computed[path].values, loaded.tag(path).embedding, rtol=1e-6)
    assert counted == [(str(path), True) for path in paths]
    monkeypatch.setattr(embeddings, "_load", lambda *_: 1 / 0)
    assert all(np.array_equal(compute()[path].values, computed[path].values) for path in paths)
    paths.append(Path(shutil.copy(paths[0], tmp_path / "copy.wav")))
    assert compute()[paths[2]].content == computed[paths[0]].content


def test_unreadable_audio_is_left_out(cp_model, music, tmp_path, cache):
    (tmp_path / "a.wav").write_text("no audio")
    errors: list[MoodfieldError | None] = []
    paths = [tmp_path / "a.wav", music / "high" / "0.wav"]
    computed = embeddings.compute(cp_model.folder, paths, cache, progress=lambda _, error: errors.append(error))
    assert list(computed) == paths[1:]
    assert "a.wav" in str(errors[0])
    assert errors[1] is None


# ---------------------------------------------------------------- the network and the model folder


def test_a_learned_model_is_a_model_folder(learned, cp_model):
    assert {path.name for path in learned.iterdir()} == FILES
    described = Card.read(learned)
    assert (described.vocabulary, described.themes, described.name) == (("high", "low"), (), "mine")
    assert described.mel == cp_model.card.mel
    assert described.priors == (0.5, 0.5)
    assert described.statistics is None
    assert described.outputs == {"logits": 2, "embedding": cp_model.card.outputs["embedding"]}
    assert described.sha256.keys() == {card.WEIGHTS, card.NETWORK}
    assert verify.check(learned).passed
    provenance = Provenance.read(learned)
    assert provenance.metrics["ROC-AUC-macro"] > 0.9
    assert cp_model.card.sha256[card.NETWORK] in provenance.origin["base"]
    assert "# mine" in (learned / card.README).read_text()


def test_a_learned_model_tags_and_is_averaged(learned, music):
    once, twice = tagger.load(learned), tagger.load(learned, learned)
    path = music / "high" / "3.wav"
    assert once.tag(path).decided == ("high",)
    assert once.tag(music / "low" / "3.wav").decided == ("low",)
    np.testing.assert_allclose(twice.tag(path).scores, once.tag(path).scores, rtol=1e-6)
    assert once.tag(path).over_time.scores.shape[0] == 2


def test_torch_gives_the_same_logits(learned):
    described = Card.read(learned)
    net = nets.from_dict(described.net).build(n_mels=described.mel.n_mels, n_tags=2)
    net.load_state_dict(safetensors.torch.load_file(learned / card.WEIGHTS))
    mels = np.random.default_rng(0).standard_normal((2, described.mel.n_mels, 400), np.float32)
    torch, onnx = TorchEngine(net), OnnxEngine(learned / card.NETWORK, threads=1)
    outputs = [engine.forward_head(engine.forward_features(mels)) for engine in (torch, onnx)]
    for ours, theirs in zip(*((output.logits, output.embedding) for output in outputs), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())


def test_a_learned_model_can_be_a_base(learned, music, tmp_path, cache):
    learn.write_model(labels.read([music]), tmp_path / "next", base=learned, cache_dir=cache)
    assert verify.check(tmp_path / "next").passed


@pytest.mark.parametrize("fault", ["crnn", "head", "weights", "card"])
def test_another_base_raises(cp_model, crnn_model, tmp_path, fault):
    base = crnn_model.folder
    if fault != "crnn":
        base = Path(shutil.copytree(cp_model.folder, tmp_path / "base"))
        described = replace(cp_model.card, sha256={})
        weights = safetensors.numpy.load_file(base / card.WEIGHTS)
        if fault == "weights":
            (base / card.WEIGHTS).write_bytes(b"nothing")
        elif fault == "head":
            kept = {name: value for name, value in weights.items() if not name.startswith("head.")}
            safetensors.numpy.save_file(kept, base / card.WEIGHTS)
        else:
            two = {"vocabulary": ("a", "b"), "themes": (), "thresholds": (0.5, 0.5), "reference_logits": ()}
            described = replace(described, **two, outputs={**described.outputs, "logits": 2})
        described.write(base)
    with pytest.raises(ModelError, match=base.name):
        network.read(base)


def test_a_head_that_the_network_does_not_compute_raises(cp_model, tmp_path, monkeypatch):
    base = network.read(cp_model.folder)
    size = cp_model.card.outputs["embedding"]
    wrong = LinearHead(np.ones((2, size)), np.zeros(2))
    monkeypatch.setattr(LinearHead, "logits", lambda _, values: np.zeros((len(values), 2)))
    with pytest.raises(ModelError, match="linear"):
        network.write(base, wrong, tmp_path)


# ---------------------------------------------------------------- learn


@pytest.fixture
def run(cp_model: Exported, music: Path, cache: Path) -> Callable[..., Learned]:
    """Learns from the music, or other tracks."""

    def call(folder: Path, tracks: Sequence[LabelledTrack] | None = None, **options: object) -> Learned:
        tracks = labels.read([music]) if tracks is None else tracks
        return learn.write_model(tracks, folder, base=cp_model.folder, cache_dir=cache, **options)

    return call


def test_three_lines_of_python(cp_model, music, cache, tmp_path):
    paths = [*(music / "high").iterdir(), *(music / "low").iterdir()]
    made = moodfield.learn(
        paths, [[path.parent.name] for path in paths], cp_model.folder, cache_dir=cache, output=tmp_path / "mine"
    )
    assert made.tag(paths[0]).decided == ("high",)
    assert {path.name for path in (tmp_path / "mine").iterdir()} == FILES
    by_path = {path: [path.parent.name] for path in paths if path.parent.name == "high"}
    tagged = moodfield.learn(music, by_path, cp_model.folder, cache_dir=cache).tag(paths[-1])
    assert (tagged.vocabulary, tagged.decided) == (("high",), ())


def test_problems_are_warnings_in_python(cp_model, music, cache, tmp_path):
    (tmp_path / "a.wav").write_text("no audio")
    paths = [tmp_path / "a.wav", *(music / "high").iterdir(), *(music / "low").iterdir()]
    tags = [[path.parent.name] if path.parent.parent == music else ["high"] for path in paths]
    tags[1].append("rare")
    with pytest.warns(MoodfieldWarning) as warned:
        made = moodfield.learn(paths, tags, cp_model.folder, cache_dir=cache)
    assert made.vocabulary == ("high", "low")
    text = " ".join(str(warning.message) for warning in warned)
    assert "a.wav" in text
    assert "rare" in text


def test_rare_tags_are_left_out(run, music, tmp_path):
    tracks = labels.read([music])
    tracks[:2] = [replace(track, tags=track.tags | {"rare"}) for track in tracks[:2]]
    result = run(tmp_path / "mine", tracks)
    assert result.card.vocabulary == ("high", "low")
    assert [item.tag for item in result.results] == ["high", "low", "rare"]
    assert "2 tracks" in result.results[2].obstacle
    assert "rare" in str(Provenance.read(tmp_path / "mine").training_data)


@pytest.mark.parametrize("kept", [2, noises.COUNT])
def test_tags_of_one_class_raise_before_any_work(run, music, tmp_path, monkeypatch, kept):
    monkeypatch.setattr(embeddings, "compute", lambda *_, **__: 1 / 0)
    with pytest.raises(DatasetError, match="high"):
        run(tmp_path / "mine", labels.read([music])[:kept])
    assert not list(tmp_path.iterdir())


def test_an_artist_is_not_a_tag(run, tmp_path):
    tracks = []
    for number in range(12):
        path = noises.save(tmp_path / f"{number}.wav", high=number < 4, seed=number, artist=f"artist {number // 4}")
        tracks.append(LabelledTrack(path, frozenset(("high",) if number < 4 else ())))
    with pytest.raises(DatasetError, match="one artist"):
        run(tmp_path / "mine", tracks)


def test_a_model_folder_is_replaced(run, tmp_path):
    first = run(tmp_path / "mine").card
    assert run(tmp_path / "mine", name="another").card.name == "another"
    assert (first.name, Card.read(tmp_path / "mine").name) == ("mine", "another")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    assert run(tmp_path / "link", name="third").card == Card.read(tmp_path / "mine")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "link"}


def test_a_base_can_be_replaced_by_what_is_learned_from_it(learned, music, tmp_path, cache):
    folder = Path(shutil.copytree(learned, tmp_path / "mine"))
    tracks = [replace(track, tags=track.tags & {"high"}) for track in labels.read([music])]
    learn.write_model(tracks, folder, base=folder, cache_dir=cache)
    assert Card.read(folder).vocabulary == ("high",)
    assert verify.check(folder).passed


def test_other_folders_are_not_replaced(run, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "compute", lambda *_, **__: 1 / 0)
    (tmp_path / "notes.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "notes.txt", tmp_path / "notes.txt" / "model"):
        with pytest.raises(OutputError, match=r"notes\.txt"):
            run(target)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (KeyboardInterrupt, "moodfield.learning.network.write"),
        (ModelError, "moodfield.training.model_folder.write_card"),
        (OSError, "moodfield.training.model_folder.write_card"),
    ],
)
def test_an_interrupted_model_leaves_the_former_one(run, learned, tmp_path, monkeypatch, error, place):
    folder = Path(shutil.copytree(learned, tmp_path / "mine"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise error("stopped")

    monkeypatch.setattr(place, fail)
    with pytest.raises(OutputError if error is OSError else error):
        run(folder)
    with pytest.raises(OutputError if error is OSError else error):
        run(tmp_path / "new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_learning_needs_no_torch():
    code = "import sys, moodfield.cli.learn, moodfield.learning.learn; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
