"""The commands `train`, `runs` and `recipes`, in one process and in two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import moodfield
from commands import invoke, json_lines
from moodfield.card import Card
from moodfield.cli import progress, tables
from moodfield.cli.recipes import named, read, replaced
from moodfield.paper import recipes
from moodfield.training import distributed, log
from moodfield.training.log import LOG
from moodfield.training.recipe import FINE_TUNING, Recipe

SETTINGS = (
    *("net.width=4", "net.rho_freq=3", "net.rho_time=1", "mel.sample_rate=8000", "mel.n_fft=256", "mel.hop_length=128"),
    *("mel.n_mels=32", "batch.clip_seconds=1", "batch.size=4", "schedule.warm_up=0", "schedule.constant=2"),
    *("schedule.decay=0", "schedule.final=0", "averaging.start=2", "loss.pos_weight=1"),
)
SET = [word for setting in SETTINGS for word in ("--set", setting)]


def train(dataset: Path, to: Path) -> list[str | Path]:
    """A command line that trains on a little dataset."""
    given = ("--validation", dataset / "validation.tsv", "--audio", dataset / "music", "--cache-dir", dataset / "store")
    return ["train", dataset / "train.tsv", *given, "-o", to, *SET]


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    result = invoke(*train(dataset, folder), "--tensorboard", "--name", "noises")
    assert result.code == 0, result.err
    rows = [line.split() for line in result.err.splitlines() if line.strip()[:1].isdigit() or "rate" in line]
    assert rows[0] == ["epoch", "rate", "loss", "val-loss", "score", "best", "averaged"]
    assert [(row[0], row[1], row[-1] == "–") for row in rows[1:3]] == [
        ("1", "1.00e-04", True),
        ("2", "1.00e-04", False),
    ]
    assert "validation PR-AUC-macro" in result.out
    assert f"try: moodfield tag --model {folder} FILE" in result.out
    return folder


def test_a_run_is_a_tagger(run):
    tagger = moodfield.load(run)
    assert [member.card.name for member in tagger.models] == ["noises", "noises"]
    assert (run / "best" / "card.json").is_file()
    assert (run / "swa-2" / "card.json").is_file()


def test_a_run_starts_from_a_model(dataset, run, tmp_path, no_export):
    paths = ["--validation", dataset / "validation.tsv", "--audio", dataset / "music", "-o", tmp_path / "tuned"]
    phases = ("schedule.constant=1", "schedule.decay=0", "schedule.final=0", "schedule.body_rate=0")
    settings = [word for setting in (*phases, "batch.size=4", "batch.clip_seconds=1") for word in ("--set", setting)]
    cache = ["--cache-dir", dataset / "store"]
    result = invoke("train", dataset / "train.tsv", *paths, *cache, "--init", run, *settings)
    assert result.code == 0, result.err
    assert "are replaced" not in result.err
    recipe, first = (Recipe.read(folder / "recipe.json") for folder in (tmp_path / "tuned", run))
    assert (recipe.net, recipe.mel) == (first.net, first.mel)
    assert recipe.schedule.peak == FINE_TUNING.recipe.schedule.peak
    assert Card.read(tmp_path / "tuned" / "best").vocabulary == Card.read(run / "best").vocabulary


def test_network_and_mel_of_a_named_recipe_are_replaced_by_those_of_the_model(dataset, run, tmp_path):
    paths = ["--validation", dataset / "validation.tsv", "--audio", dataset / "music", "-o", tmp_path / "tuned"]
    words = ["--init", run, "--recipe", "vgg", "--set", "batch.size=1"]  # which is refused before any work
    result = invoke("train", dataset / "train.tsv", *paths, *words)
    assert result.code == 1
    recipe = read("vgg", [], initial_model=run / "best")
    assert recipe.mel == Recipe.read(run / "recipe.json").mel
    assert replaced("vgg", recipe) == ["network", "mel"]
    assert replaced("vgg", recipes.RECIPES["vgg"].recipe) == []


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (["--init", "defualt"], 2, "default"),
        (["--init", "default", "--set", "net.width=32"], 1, "net.width"),
        (["--init", "default", "--set", "mel.hop_length=512"], 1, "mel.hop_length"),
        (["--set", "schedule.body_rate=0"], 1, "--init"),
        (["--init", "default", "--set", "schedule.body_rate=2"], 1, "body_rate"),
    ],
)
def test_what_cannot_start_from_a_model(dataset, tmp_path, words, code, err):
    paths = ["--validation", dataset / "validation.tsv", "--audio", dataset / "music", "-o", tmp_path / "tuned"]
    result = invoke("train", dataset / "train.tsv", *paths, "--cache-dir", tmp_path / "cache", *words)
    assert result.code == code
    assert err in result.err
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "tuned").exists()


def test_event_files_for_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / log.TENSORBOARD)).Reload()
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    for name, key in (
        ("loss", "loss"),
        ("learning_rate", "learning_rate"),
        ("validation/loss", "validation_loss"),
        ("validation/network", "score"),
    ):
        assert [(each.step, each.value) for each in found.Scalars(name)] == [
            (line["epoch"], pytest.approx(line[key])) for line in lines
        ]
    assert [each.step for each in found.Scalars("validation/average")] == [2]


def test_runs_are_compared_and_drawn(run, dataset, tmp_path, no_export, monkeypatch):
    other = tmp_path / "two"
    assert invoke(*train(dataset, other), "--set", "seed=7", "--set", "averaging.every=0").code == 0
    result = invoke("runs", run, other, "--plot", tmp_path / "curves.png")
    assert result.code == 0, result.err
    first, second = result.out.split("\n\n")
    assert first.split("\n")[0].split() == ["run", "epochs", "loss", "best", "in", "epoch", "averaged"]
    assert [line.split() for line in second.splitlines()] == [
        ["setting", "1", "2"], ["averaging.every", "3", "0"], ["seed", "42", "7"]
    ]  # fmt: skip
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote" in result.err
    (tmp_path / "runs").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [read["run"] for read in json_lines(invoke("runs", "--json").out)] == ["runs/two"]
    ours, theirs = json_lines(invoke("runs", run, other, "--json").out)
    assert (ours["finished"], ours["run"], theirs["run"]) == (True, str(run), str(other))
    assert Recipe.from_dict(ours["recipe"]) == log.read(run).recipe
    assert len(ours["epochs"]) == 2
    assert ours["best"]["score"] == max(each["score"] for each in ours["epochs"])


@pytest.mark.parametrize(
    ("words", "err"),
    [
        (("runs", "nowhere"), "recipe.json"),
        (("recipes", "fa_restnet"), "did you mean fa_resnet"),
        (("recipes", "fa_resnet", "--set", "sed=1"), "did you mean seed"),
        (("recipes", "none.json"), "none.json"),
    ],
)  # fmt: skip
def test_unknown_runs_and_recipes(words, err):
    result = invoke(*words)
    assert (result.code, result.out) == (2 if err.endswith("fa_resnet") else 1, "")
    assert err in result.err


def test_a_bad_plot_path_is_a_usage_error(run, tmp_path):
    result = invoke("runs", run, "--plot", tmp_path / "curves.txt")
    assert (result.code, result.out) == (2, "")
    assert ".png" in result.err


def test_recipes_are_listed_and_described():
    result = invoke("recipes")
    assert (result.code, result.err) == (0, "")
    assert [name for name in named() if f"\n{name}" in result.out] == [*recipes.RECIPES, "fine_tuning"]
    result = invoke("recipes", "crnn", "--set", "seed=4")
    assert result.code == 0
    flat = " ".join(result.out.split())
    assert "mel.hop_length 1536 samples" in flat
    assert "; here: §2.1" in flat
    assert "seed 4 " in flat
    assert "changed by --set" in flat
    assert max(map(len, result.out.splitlines())) <= 80
    for each in recipes.RECIPES["crnn"].recipe.settings():
        assert f"\n{each.path} " in result.out


def test_a_recipe_as_json_is_what_train_takes(tmp_path):
    (read,) = json_lines(invoke("recipes", "--json").out)
    assert list(read) == list(named())
    assert Recipe.from_dict(read["crnn"]["recipe"]) == recipes.RECIPES["crnn"].recipe
    result = invoke("recipes", "resnet34", "--set", "net.width=8", "--json")
    (tmp_path / "mine.json").write_text(result.out)
    again = invoke("recipes", tmp_path / "mine.json", "--json")
    assert again.out == result.out
    assert Recipe.read(tmp_path / "mine.json").net.width == 8


@pytest.mark.slow  # two processes import torch; test_distributed has what they compute
def test_two_processes_train_a_run_and_one_prints(dataset, run, tmp_path):
    """Extraction, training, validation and export, in two processes."""
    words = [str(word) for word in train(dataset, tmp_path / "run")]
    words[words.index("--cache-dir") + 1] = str(tmp_path / "store")
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "moodfield")
    done = subprocess.run(
        [sys.executable, *launch, *words], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation ROC-AUC-macro") == done.stdout.count("the model is in") == 1
    assert done.stderr.count("averaged") == 1
    assert "Traceback" not in done.stderr
    ours, theirs = log.read(tmp_path / "run"), log.read(run)
    assert ours.recipe == theirs.recipe
    assert [each.epoch for each in ours.epochs] == [1, 2]
    assert ours.epochs[0].loss == pytest.approx(theirs.epochs[0].loss, rel=0.05)
    assert len(list((tmp_path / "store").rglob("*.npy"))) == 20
    assert not list(tmp_path.rglob("*.part"))
    assert len(moodfield.load(tmp_path / "run").models) == 2


def test_only_the_first_of_several_processes_prints(run, capsys, monkeypatch):
    epoch = log.read(run).epochs[0]
    for is_main in (True, False):
        monkeypatch.setattr(distributed, "is_main", lambda is_main=is_main: is_main)
        with progress.TrainingProgress(1, 2) as bars:
            bars.epoch(epoch)
        tables.print_metrics(run)
        captured = capsys.readouterr()
        assert (bool(captured.out), bool(captured.err)) == (is_main, is_main)
