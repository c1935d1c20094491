"""The commands `nets`, `models` and shell completion."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import pytest

import models
from commands import invoke, json_lines
from moodfield import card, nets, tagger
from moodfield.cli import main
from moodfield.nets import summary


@pytest.fixture(scope="module", autouse=True)
def cached_summaries() -> Iterator[None]:
    """Networks of the registry are summarised once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "registered", functools.cache(summary.registered))
        yield


def test_nets_are_listed():
    result = invoke("nets")
    assert (result.code, result.err) == (0, "")
    head, *rows = result.out.split("\n\n")[0].splitlines()
    assert head.split() == ["network", "params", "GMAC", "field", "around", "1", "kHz", "seconds", "length"]
    assert [row.split()[0] for row in rows] == list(nets.NETS)
    assert rows[1].split() == "fa_resnet 3.60 M 16.7 87 × 87 315 Hz – 2.0 kHz 1.04 any".split()
    assert rows[-1].split() == "vgg 0.45 M 0.6 174 × 2090 0 Hz – 6 kHz 29.16 fixed".split()
    assert max(map(len, result.out.splitlines())) <= 100


def test_nets_as_json_are_one_object_by_name():
    result = invoke("nets", "--json")
    assert (result.code, result.err) == (0, "")
    (read,) = json_lines(result.out)
    assert list(read) == list(nets.NETS)
    keys = {"net", "mel", "parameters", "gmac_per_10_s", "receptive_field", "stride", "lengths"}
    for name, values in read.items():
        assert set(values) == keys
        assert nets.from_dict(values["net"]) == nets.NETS[name]
    assert (read["crnn"]["lengths"]["kind"], read["crnn"]["lengths"]["min_frames"]) == ("whole", 96)


def test_one_net_is_described_with_changed_settings():
    settings = ("--set", "rho_freq=7", "--set", "rho_time=2", "--set", "width=16")
    result = invoke("nets", "cp_resnet", *settings)
    assert (result.code, result.err) == (0, "")
    rows = {line[:15].strip(): line[15:].strip() for line in result.out.splitlines()[1:]}
    assert result.out.splitlines()[0] == "cp_resnet"
    assert "rho_freq 7, rho_time 2, width 16" in rows["settings"]
    assert rows["receptive field"] == "135 bands × 39 frames"
    assert "0.49 s" in rows["extent"]
    (read,) = json_lines(invoke("nets", "cp_resnet", "--set", "rho_freq=7", "--set", "rho_time=7", "--json").out)
    assert (read["name"], read["net"]["rho_freq"], read["parameters"]) == ("cp_resnet", 7, 3_980_272)


def test_a_receptive_field_is_drawn_over_audio(tmp_path):
    song = models.save(tmp_path / "song.ogg", models.music(5, seed=1))
    plot = tmp_path / "field.png"
    result = invoke("nets", "fa_resnet", "--set", "width=2", "--plot", plot, "--audio", song, "--json")
    assert result.code == 0
    assert len(json_lines(result.out)) == 1
    assert result.err == f"moodfield: wrote {plot}\n"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_net_of_a_model_is_described(cp_model, tmp_path):
    plot = tmp_path / "field.png"
    result = invoke("nets", "--model", cp_model.folder, "--plot", plot)
    assert result.code == 0
    assert result.out.splitlines()[0] == "cp_resnet"
    assert "rho_freq 1, rho_time 5, width 4" in result.out
    assert "64 bands, 22050 Hz, n_fft 1024, hop_length 512" in result.out
    assert plot.exists()
    (read,) = json_lines(invoke("nets", "--model", cp_model.folder, "--json").out)
    assert read["net"] == asdict(cp_model.net.config)
    (read,) = json_lines(invoke("nets", "--model", "default", "--json").out)
    assert read["net"] == asdict(nets.from_dict(card.Card.read(tagger.pretrained_models()["default"]).net))


@pytest.mark.parametrize(
    ("code", "line", "token"),
    [
        (2, "fa_resent", "did you mean fa_resnet"),
        (1, "crnn --set rho_freq=5", "it has width, hidden"),
        (1, "resnet34 --set rho_time=5", "rho_time"),
        (1, "cp_resnet --set rho_freq=23", "23"),
        (1, "crnn --set width=many", "width"),
        (2, "cp_resnet --model none", "--model"),
        (2, "--model none", "known: default"),
        (2, "cp_resnet --set rho_freq", "rho_freq=7"),
        (2, "cp_resnet --audio x.ogg", "--plot"),
        (2, "cp_resnet --plot none/field.png", "none"),
        (2, "cp_resnet --plot field.txt", ".png"),
        (2, "--model none --set rho_freq=5", "--set"),
        (2, "--set rho_freq=5", "--set"),
        (2, "--plot field.png", "--plot"),
        (2, "--loud", "--loud"),
        (2, "crnn vgg", "vgg"),
    ],
)
def test_wrong_arguments_of_nets(code, line, token):
    result = invoke("nets", *line.split())
    assert (result.code, result.out) == (code, "")
    assert token in result.err


# ---------------------------------------------------------------- models


def test_models_are_listed():
    result = invoke("models")
    assert result.code == 0
    assert "default" in result.out
    (read,) = json_lines(invoke("models", "--json").out)
    assert read["default"]["tags"] == 56


def test_a_card_is_shown_as_text_and_json(cp_model):
    page = invoke("models", cp_model.folder)
    assert page.code == 0
    assert "CC0-1.0" in page.out
    shown = json.loads(invoke("models", cp_model.folder, "--json").out)
    assert shown["card"] == json.loads(cp_model.card.to_json())


def test_a_model_is_verified(cp_model):
    result = invoke("models", cp_model.folder, "--verify")
    assert result.code == 0
    assert cp_model.card.sha256[card.NETWORK][:16] in result.out
    assert "5 logits" in result.out
    assert json.loads(invoke("models", "--verify", cp_model.folder, "--json").out)["passed"] is True


def test_a_model_that_was_changed_fails_the_verification(cp_model, tmp_path):
    shifted = tuple(logit + 0.1 for logit in cp_model.card.reference_logits)
    folder = models.varied(cp_model, tmp_path / "other", reference_logits=shifted)
    result = invoke("models", folder, "--verify", "--json")
    assert result.code == 1
    assert json.loads(result.out)["passed"] is False
    assert "differ by 0.1" in result.err
    (folder / card.NETWORK).write_bytes(b"something else")
    broken = invoke("models", folder, "--verify")
    assert (broken.code, broken.out) == (1, "")
    assert card.NETWORK in broken.err


@pytest.mark.parametrize(
    ("code", "words"), [(2, ["defualt"]), (2, ["/nowhere", "--verify"]), (2, ["--verify"])], ids=str
)
def test_wrong_arguments_of_models(code, words):
    result = invoke("models", *words)
    assert (result.code, result.out) == (code, "")


# ---------------------------------------------------------------- help, completion, imports


def complete(line: str, shell: str = "bash") -> list[str]:
    """What a shell offers for the last word of a command line."""
    words = line.split(" ")
    environment = {"_MOODFIELD_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; from moodfield.cli import main; sys.argv = ['moodfield']; main.app(prog_name='moodfield')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("moodfield sub", ["submission"]),
        ("moodfield submission ", ["make", "check"]),
        ("moodfield nets fa", ["fa_resnet"]),
        ("moodfield train --recipe cr", ["crnn"]),
        ("moodfield tag --model d", ["default"]),
    ],
)
def test_commands_and_names_are_completed(line, offered):
    assert complete(line) == offered


@pytest.mark.parametrize("words", [("--help",), ("nets", "--help"), ("paper", "train", "--help")])
def test_help_imports_nothing_heavy(words):
    code = f"import sys; from moodfield.cli import main; sys.argv = {['moodfield', *words]!r}\n"
    code += "try: main.main()\nfinally: assert not {'torch', 'matplotlib', 'numpy', 'rich'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: moodfield" in done.stdout


def leaves() -> list[tuple[str, ...]]:
    """The words of every command."""
    words = []
    for name, command in main.COMMANDS.items():
        words += [(name,)] if callable(command) else [(name, subname) for subname in command]
    return words


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_a_command_has_ten_options_or_panels(words):
    out = invoke(*words, "--help").out
    sections = [section.split("\n\n")[0] for section in out.split("\nOptions")[1:]]
    counts = [sum(line.lstrip().startswith("-") for line in section.splitlines()) for section in sections]
    assert sum(counts) <= 11 or len(sections) > 1, "--help is one of them"
    assert all(count <= 11 for count in counts)


def test_commands_that_need_no_torch_run_without_it(tmp_path):
    """In one process in which torch cannot be imported."""
    import numpy as np

    np.save(tmp_path / "truth.npy", np.eye(30, 5) > 0)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((30, 5)))
    lines = [
        "evaluate --predictions a.npy --truth truth.npy --intervals 0 --json",
        "compare a.npy a.npy --truth truth.npy --intervals 5 --json",
        "thresholds --truth truth.npy --predictions a.npy -o thresholds.txt",
        "ensemble a.npy a.npy -o mean.npy",
        "submission check a.npy",
        "recipes",
        "recipes fa_resnet",
        "models default",
        "runs nowhere",
        "paper table1 --data .",
        "data stats truth.npy",
    ]
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from typer.testing import CliRunner; from moodfield.cli import main\n"
        f"for line in {lines!r}: print('torch' in (result := CliRunner().invoke(main.app, line.split())).stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["False"] * len(lines)
    assert {path.name for path in tmp_path.iterdir()} == {"truth.npy", "a.npy", "thresholds.txt", "mean.npy"}
