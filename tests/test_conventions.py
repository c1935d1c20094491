"""The manners of the house that no tool checks, each shown able to fail on a small bad example."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "src" / "moodfield"
SOURCES = {path.relative_to(HOUSE).as_posix(): path.read_text(encoding="utf-8") for path in sorted(HOUSE.rglob("*.py"))}

MODULE_LINES = 400
FUNCTION_LINES = 50
"""lines of code: no docstring, blank line or comment"""
AXES = set("batch channels bands frames clips tracks tags samples freq time".split())
BINS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
ABOVE_TRAINING = {"paper", "published", "reproduction", "sweep"}
"""rooms beside the ground floor that stand above `training`, and so may need torch"""
GUESTS = tuple("torch lightning_fabric ray fastapi sklearn scipy librosa av matplotlib onnx httpx".split())
"""heavy packages that the ground floor must be able to do without"""

Definition = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[str, str], Iterator[str]]
"""from a room's path below the package and its source text, to its faults in words"""


# Reading a room


def definitions(tree: ast.Module) -> Iterator[tuple[Definition | ast.ClassDef, bool]]:
    """Every function and class outside functions, and whether it is public."""

    def below(node: ast.Module | ast.ClassDef, public: bool) -> Iterator[tuple[Definition | ast.ClassDef, bool]]:
        for child in node.body:
            if isinstance(child, Definition | ast.ClassDef):
                seen = public and (not child.name.startswith("_") or child.name == "__init__")
                yield child, seen
                if isinstance(child, ast.ClassDef):
                    yield from below(child, seen)

    return below(tree, True)


def public_functions(source: str) -> Iterator[Definition]:
    """Public functions and methods that are not overloads, overrides or setters."""
    for node, public in definitions(ast.parse(source)):
        if public and not isinstance(node, ast.ClassDef) and not {"overload", "override", "setter"} & decorators(node):
            yield node


def decorators(node: Definition | ast.ClassDef) -> set[str]:
    """The last names of what decorates a function or class."""
    return {dotted(d.func if isinstance(d, ast.Call) else d).rpartition(".")[2] for d in node.decorator_list}


def dotted(node: ast.expr) -> str:
    """`a.b.c` as it is written, or nothing if the expression is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return ""


def calls(source: str) -> Iterator[tuple[str, dict[str | None, ast.expr], ast.Call]]:
    """Every call: what is called, its keywords, where."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), {keyword.arg: keyword.value for keyword in node.keywords}, node


def imports(source: str) -> Iterator[tuple[str, str, ast.stmt]]:
    """Every import: the module, the name taken from it (or nothing), where."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name, node) for alias in node.names)


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_literal(node: ast.expr | None, value: object) -> bool:
    """Whether an expression is this very constant."""
    return isinstance(node, ast.Constant) and node.value is value


# The manners


def module_docstrings_say_what_a_room_is_for(room: str, source: str) -> Iterator[str]:
    """One sentence; then In, Out and Knows nothing of, unless there is no code or it is the front door."""
    tree = ast.parse(source)
    text = ast.get_docstring(tree) or ""
    sentence, _, rest = text.partition("\n")
    if not sentence or not sentence.endswith(".") or (sentence[0].islower() and not sentence.startswith("moodfield")):
        yield "its docstring should begin with one sentence"
    if room != "__init__.py" and len(tree.body) > 1:
        for part in ("In:", "Out:", "Knows nothing of:"):
            if part not in rest:
                yield f"its docstring lacks `{part}`"


def public_things_have_docstrings(_: str, source: str) -> Iterator[str]:
    """Every public function and class says what its type cannot; `__init__` is described by its class."""
    for node in public_functions(source):
        if node.name != "__init__" and not ast.get_docstring(node):
            yield f"line {node.lineno}: {node.name} has no docstring"
    for thing, public in definitions(ast.parse(source)):
        if isinstance(thing, ast.ClassDef) and public and not ast.get_docstring(thing):
            yield f"line {thing.lineno}: {thing.name} has no docstring"


def dataclasses_are_frozen(_: str, source: str) -> Iterator[str]:
    """A dataclass is a value; one that changes says `# mutable: why` beside its decorator."""
    lines = source.splitlines()
    for node in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)):
        for mark in node.decorator_list:
            call = mark if isinstance(mark, ast.Call) else None
            if dotted(call.func if call else mark).rpartition(".")[2] != "dataclass":
                continue
            frozen = call and any(k.arg == "frozen" and is_literal(k.value, True) for k in call.keywords)
            if not frozen and "# mutable: " not in lines[mark.lineno - 1]:
                yield f"line {mark.lineno}: {node.name} is not frozen"


def settings_are_explained(_: str, source: str) -> Iterator[str]:
    """Every field of a config, card or recipe has a docstring under it: meaning, unit, range."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or not (node.name.endswith("Config") or node.name in {"Card", "Recipe"}):
            continue
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
                name = ast.unparse(field.target)
                if not name.startswith("_") and not (after and is_text(after)):
                    yield f"line {field.lineno}: {node.name}.{name} has no docstring under it"


def nothing_is_global(_: str, source: str) -> Iterator[str]:
    """No function changes the state of its module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"


def only_the_front_desk_prints(room: str, source: str) -> Iterator[str]:
    """The library logs or returns; `cli` prints."""
    for name, _, node in calls(source):
        if name == "print" and Path(room).parts[0] != "cli":
            yield f"line {node.lineno}: print"


def signatures_are_complete(_: str, source: str) -> Iterator[str]:
    """No `**kwargs` in public, except the changes that `create` makes to a config."""
    for node in public_functions(source):
        extra = node.args.kwarg
        if extra and (node.name, extra.arg) != ("create", "changes"):
            yield f"line {node.lineno}: {node.name}(**{extra.arg})"


def booleans_are_named(_: str, source: str) -> Iterator[str]:
    """A reader of `f(x, True)` cannot know what is true: booleans are keyword-only."""
    for node in public_functions(source):
        positional = [*node.args.posonlyargs, *node.args.args]
        defaults = [None] * (len(positional) - len(node.args.defaults)) + list(node.args.defaults)
        for argument, default in zip(positional, defaults, strict=True):
            note = ast.unparse(argument.annotation) if argument.annotation else ""
            noted = "bool" in re.split(r"\W+", note) and "[" not in note
            if noted or is_literal(default, True) or is_literal(default, False):
                yield f"line {node.lineno}: {node.name}({argument.arg}) is a boolean and positional"


def files_run_no_code(_: str, source: str) -> Iterator[str]:
    """No pickle, no eval, no shell: nothing that is read can act."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "subprocess"}
    for module, name, node in imports(source):
        if module.partition(".")[0] in forbidden and name not in {"PickleError", "UnpicklingError"}:
            yield f"line {node.lineno}: imports {module}"
    for name, keywords, call in calls(source):
        if name in {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}:
            yield f"line {call.lineno}: {name}"
        if name == "torch.load" and not is_literal(keywords.get("weights_only"), True):
            yield f"line {call.lineno}: torch.load without weights_only=True"
        if "allow_pickle" in keywords and not is_literal(keywords["allow_pickle"], False):
            yield f"line {call.lineno}: {name} with allow_pickle"


def errors_are_not_swallowed(_: str, source: str) -> Iterator[str]:
    """No bare `except`, and no broad one that does nothing."""
    broad = {"Exception", "BaseException"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            caught = {dotted(n) for n in ast.walk(node.type) if isinstance(n, ast.expr)} if node.type else broad
            silent = all(isinstance(s, ast.Pass | ast.Continue) or ast.unparse(s) == "..." for s in node.body)
            if node.type is None or (silent and caught & broad):
                yield f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}"
    for name, _keywords, node in calls(source):
        if name.endswith("suppress") and broad & {dotted(argument) for argument in node.args}:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def rooms_are_small(_: str, source: str) -> Iterator[str]:
    """A longer one probably holds two ideas."""
    lines = source.splitlines()
    if len(lines) > MODULE_LINES:
        yield f"{len(lines)} lines; {MODULE_LINES} are enough"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Definition):
            text = node.body[0] if is_text(node.body[0]) else None
            spoken = range(text.lineno, (text.end_lineno or text.lineno) + 1) if text else range(0)
            body = (lines[n - 1].strip() for n in range(node.lineno, (node.end_lineno or 0) + 1) if n not in spoken)
            code = sum(1 for line in body if line and not line.startswith("#"))
            if code > FUNCTION_LINES:
                yield f"line {node.lineno}: {node.name} has {code} lines; {FUNCTION_LINES} are enough"


def rooms_are_named_after_things(room: str, _: str) -> Iterator[str]:
    """A drawer for everything is a room for nothing."""
    for part in Path(room).with_suffix("").parts:
        if part in BINS:
            yield f"{part} is no noun of the field"


def rooms_are_imported_not_furniture(room: str, source: str) -> Iterator[str]:
    """`from moodfield import audio`, then `audio.read`; only classes, types and constants come by name."""
    wings = {"containers", "nets", "training", "outputs", "serving", "cli"}
    for module, name, node in imports(source):
        if module.startswith("."):
            yield f"line {node.lineno}: a relative import"
        inside, _, deeper = module.partition("moodfield.")[2].partition(".")
        door = room == "__init__.py"  # the front door names its furniture for type checkers
        if module.startswith("moodfield.") and name and name.islower() and (inside not in wings or deeper) and not door:
            yield f"line {node.lineno}: {name} is furniture of {module}"
        if Path(room).name == "__init__.py" and room not in {"__init__.py", "nets/__init__.py"}:
            yield f"line {node.lineno}: an __init__ re-exports nothing"


def axes_have_the_words_of_the_field(_: str, source: str) -> Iterator[str]:
    """Shapes are written with the ten axis names, numbers, `...` and `_`."""
    kinds = re.compile(r"(Float|Int|UInt|Bool|Shaped|Num|Real|Inexact|Integer|Complex)\d*$")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Subscript) or not kinds.match(dotted(node.value).rpartition(".")[2]):
            continue
        shape = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else None
        if isinstance(shape, ast.Constant) and isinstance(shape.value, str):
            for word in re.findall(r"[A-Za-z]\w*", shape.value):
                if word not in AXES:
                    yield f"line {node.lineno}: axis {word}"


HEAD = '"""A room.\n\nIn: a. Out: b.\nKnows nothing of: c.\n"""\n'
LONG = "def f():\n" + '    """A thing."""\n' + "    x = 1\n" * FUNCTION_LINES

MANNERS: dict[Check, tuple[list[str], list[str]]] = {  # with examples: bad, good
    module_docstrings_say_what_a_room_is_for: (
        [
            "",
            '"""no capital."""',
            '"""No stop"""',
            '"""A room.\n\nIn: a. Out: b.\n"""\nx = 1',
            HEAD.replace("Out:", "") + "x = 1",
        ],
        [HEAD, HEAD + "x = 1", '"""A wing."""'],
    ),
    public_things_have_docstrings: (
        ["def f(): ...", "class A: ...", 'class A:\n    """A."""\n    def f(self): ...'],
        ["def _f(): ...", "class _A:\n    def f(self): ...", 'def f():\n    """F."""\n    def g(): ...'],
    ),
    dataclasses_are_frozen: (
        ["@dataclass\nclass A: ...", "@dataclasses.dataclass(frozen=False)\nclass A: ..."],
        ["@dataclass(frozen=True)\nclass A: ...", "@dataclass  # mutable: it counts\nclass A: ...", "class A: ..."],
    ),
    settings_are_explained: (
        ["class MelConfig:\n    a: int = 1", "class Card:\n    a: int\n    b: int\n    'B.'"],
        ["class MelConfig:\n    a: int = 1\n    'A.'", "class Layer:\n    a: int", "class Card:\n    a: ClassVar[int]"],
    ),
    nothing_is_global: (["def f():\n    global x"], ["def f():\n    x = 1\n    def g():\n        nonlocal x"]),
    only_the_front_desk_prints: (["print(1)"], ["console.print(1)", "'print(1)'"]),
    signatures_are_complete: (
        ["def f(**kwargs): ...", "class A:\n    def __init__(self, **changes): ..."],
        ["def create(name, **changes): ...", "def _f(**kwargs): ..."],
    ),
    booleans_are_named: (
        ["def f(a: bool): ...", "def f(a=True): ...", "def f(a: bool | None = None): ..."],
        ["def f(*, a: bool = True): ...", "def f(a: int = 1): ...", "def f(a: Callable[[int], bool]): ..."],
    ),
    files_run_no_code: (
        [
            *("import pickle", "from pickle import load", "import subprocess", "eval('1')", "exec('1')"),
            *("os.system('ls')", "yaml.load(f)", "torch.load(f)", "torch.load(f, weights_only=False)"),
            "np.load(f, allow_pickle=True)",
        ],
        ["net.eval()", "torch.load(f, weights_only=True)", "np.load(f, allow_pickle=False)", "np.load(f)"],
    ),
    errors_are_not_swallowed: (
        [
            "try: f()\nexcept: raise",
            "try: f()\nexcept Exception: pass",
            "try: f()\nexcept (OSError, Exception): ...",
            "with suppress(Exception): f()",
        ],
        [
            "try: f()\nexcept OSError: pass",
            "try: f()\nexcept Exception as e: raise A from e",
            "with suppress(OSError): f()",
        ],
    ),
    rooms_are_small: (["x = 1\n" * (MODULE_LINES + 1), LONG], [LONG.replace("    x = 1\n", "    # why\n\n", 1)]),
    rooms_are_imported_not_furniture: (
        ["from . import a", "from moodfield.audio import read", "from moodfield.nets.blocks import roll"],
        ["from moodfield import audio", "from moodfield.nets import blocks", "from moodfield.mel import MelConfig"],
    ),
    axes_have_the_words_of_the_field: (
        ['x: Float32[np.ndarray, "bands hops"]', 'x: Float[Tensor, "n"]'],
        ['x: Float32[np.ndarray, "bands frames"]', 'x: Float[Tensor, "*batch 1 time"]', 'x: Literal["hops", "bands"]'],
    ),
}


@pytest.mark.parametrize("check", [*MANNERS, rooms_are_named_after_things], ids=lambda check: check.__name__)
def test_every_room_keeps_the_manner(check: Check) -> None:
    faults = [f"{room}: {fault}" for room, source in SOURCES.items() for fault in check(room, source)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("check", MANNERS, ids=lambda check: check.__name__)
def test_the_manner_can_be_broken(check: Check) -> None:
    bad, good = MANNERS[check]
    assert [source for source in bad if not list(check("room.py", source))] == []
    assert [source for source in good if list(check("room.py", source))] == []


def test_some_manners_depend_on_the_room() -> None:
    assert list(rooms_are_named_after_things("nets/utils.py", ""))
    assert list(rooms_are_named_after_things("common/blocks.py", ""))
    assert not list(rooms_are_named_after_things("nets/blocks.py", ""))
    assert not list(only_the_front_desk_prints("cli/desk.py", "print(1)"))
    assert list(rooms_are_imported_not_furniture("training/__init__.py", "from moodfield.training.loop import Loop"))
    assert not list(module_docstrings_say_what_a_room_is_for("__init__.py", '"""moodfield hears."""\nx = 1'))


# The tree in the README


def read_tree(readme: str) -> dict[str, str]:
    """From path below the package to its sentence, as the README's drawing of `src/moodfield` has them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    found: dict[str, str] = {}
    for block in blocks:
        above: list[tuple[int, str]] = []
        for line in block.splitlines():
            name, _, sentence = line.lstrip(" │├└─").partition(" ")
            indent = len(line) - len(line.lstrip(" │├└─"))
            above = [(depth, folder) for depth, folder in above if depth < indent]
            path = "".join(folder for _, folder in above) + name
            if name.endswith("/"):
                above.append((indent, name))
            inside = re.match(r"(?:.*/)?moodfield/(.+)", path)
            if inside and (name.endswith((".py", "/"))):
                found[inside[1]] = re.sub(r"^\[\w+\]\s*", "", sentence.strip())
    return found


def tree_faults(readme: str, sources: Mapping[str, str]) -> list[str]:
    """Where the README's tree is not the house: rooms left out, rooms that are not there, other sentences."""
    tree = read_tree(readme)
    faults = []
    sentences = {
        re.sub(r"/__init__\.py$", "/", room): (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        for room, source in sources.items()
    }
    for room, sentence in sentences.items():
        if room not in tree:
            faults.append(f"{room} is not in the README's tree")
        elif tree[room].rstrip(".").casefold() != sentence.rstrip(".").casefold():
            faults.append(f"{room}: the README says {tree[room]!r}, the room {sentence!r}")
    faults += [
        f"{room} is in the README's tree only" for room in tree if room.endswith(".py") and room not in sentences
    ]
    return faults


def test_the_readme_shows_the_house() -> None:
    faults = tree_faults((ROOT / "README.md").read_text(encoding="utf-8"), SOURCES)
    assert not faults, "\n".join(faults)


def test_a_wrong_tree_is_noticed() -> None:
    house = {"__init__.py": '"""A house."""', "mel.py": '"""A mel."""', "nets/__init__.py": '"""N."""'}
    lines = ["src/moodfield/", "├── __init__.py   a house", "├── mel.py        a mel", "└── nets/         [train] n"]

    def faults(*lines: str) -> list[str]:
        return tree_faults("\n".join(["```", *lines, "```"]) + "\n", house)

    assert faults(*lines) == []
    assert (
        faults("├── README.md   this", "├── src/", "│   └── moodfield/", *(f"│       {line}" for line in lines[1:]))
        == []
    )
    assert faults(*lines[:2], lines[3]) == ["mel.py is not in the README's tree"]
    assert "A mel." in faults(*lines[:2], "├── mel.py   a map", lines[3])[0]
    assert faults(*lines, "│   └── vgg.py   v") == ["nets/vgg.py is in the README's tree only"]


# What comes along when something is imported


def imported_by(code: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after running `code`."""
    ending = "\nimport sys; print('\\nloaded:', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


WITHOUT_GUESTS = f"""
import importlib, sys
class Doorman:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {GUESTS!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)
sys.meta_path.insert(0, Doorman())
"""


def test_the_front_door_is_light() -> None:
    heavy = {"numpy", "soundfile", "soxr", "onnxruntime", "pydantic", "rich", "typer", *GUESTS}
    assert not imported_by("import moodfield") & heavy
    assert imported_by("import numpy") & heavy == {"numpy"}


def test_help_is_light() -> None:
    ask = "import sys\nfrom moodfield.cli import front\nsys.argv = ['moodfield', '--help']\n"
    loaded = imported_by(ask + "try: front.main()\nexcept SystemExit: pass")
    assert "moodfield" in loaded
    assert not loaded & {"onnxruntime", *GUESTS}


def test_the_ground_floor_does_without_its_guests() -> None:
    rooms = sorted(room.removesuffix(".py") for room in SOURCES if "/" not in room and room != "__init__.py")
    ground = [f"moodfield.{room}" for room in rooms if room not in ABOVE_TRAINING]
    visit = f"import importlib\nfor room in {ground!r}: importlib.import_module(room)"
    assert imported_by(WITHOUT_GUESTS + visit) >= {"moodfield", "numpy"}, "with the guests away"
    assert not imported_by(visit) & set(GUESTS), "with the guests at the door"


def test_the_doorman_stops_guests() -> None:
    with pytest.raises(AssertionError, match="torch is not installed"):
        imported_by(WITHOUT_GUESTS + "import torch")


# The project speaks of itself alone

PLACES = ("/wo" + "rk/", "../sha" + "red")


def places_named(text: str) -> list[str]:
    """Lines that name a place outside the project, as it happens to be on one machine."""
    return [line.strip() for line in text.splitlines() if any(place in line for place in PLACES)]


def test_no_place_outside_the_project_is_named() -> None:
    folders = ("src", "docs", "tests", "benchmarks", "examples", "music", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".cff", ".txt", ".yaml", ".yml"}]
    texts = {".py", ".md", ".toml", ".cff", ".txt", ".yaml", ".yml", ".tsv", ".json", ".html", ".sh", ""}
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in files
        if path.suffix in texts and "__pycache__" not in path.parts
        for line in places_named(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found, "\n".join(found)
    assert len(places_named((ROOT / "Makefile").read_text(encoding="utf-8"))) == 1, "one default for MOODFIELD_DATA"


def test_a_named_place_is_noticed() -> None:
    assert places_named("a\n see " + PLACES[0] + "main\n") == ["see " + PLACES[0] + "main"]
    assert not places_named("a network/a, the work, shared")
