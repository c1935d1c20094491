"""The notebooks in docs/ run, and print what they show."""

import ast
import contextlib
import io
import json
import warnings
from pathlib import Path

import pytest

import moodfield

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))


def _code(notebook: Path) -> list[dict[str, list[str]]]:
    """The cells with code."""
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_names_what_the_package_has(notebook):
    """The fast one beside the next, which takes half a minute."""
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in _code(notebook)))
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "moodfield"
    }
    assert names
    assert names <= set(dir(moodfield))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_prints_what_it_shows(notebook, data, tmp_path, monkeypatch):
    if not (data / "more-music").is_dir():
        pytest.skip("more-music is not in MOODFIELD_DATA")
    monkeypatch.setenv("MOODFIELD_DATA", str(data.resolve()))
    monkeypatch.chdir(tmp_path)
    variables: dict[str, object] = {}
    for cell in _code(notebook):
        with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of learning are part of the result
            exec(compile(ast.parse("".join(cell["source"])), notebook.name, "exec"), variables)
        shown = "".join(text for output in cell["outputs"] for text in output.get("text", ()))
        assert _words(printed.getvalue()) == _words(shown)


def _words(printed: str) -> list[str]:
    """What was printed, without the last digit of scores, which depends on the processor."""
    words = printed.split()
    return [word[:-1] if "." in word and word.replace(".", "").isdigit() else word for word in words]


def test_notebooks_have_no_paths_and_no_errors():
    assert NOTEBOOKS
    for notebook in NOTEBOOKS:
        content = json.loads(notebook.read_text())
        kinds = {output["output_type"] for cell in content["cells"] for output in cell.get("outputs", ())}
        assert kinds <= {"stream"}
        assert "/home/" not in notebook.read_text()
