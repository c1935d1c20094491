"""Conventions that no tool checks, each with a small example that breaks it."""

import ast
import doctest
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "moodfield"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
"""source text by path below the package"""

MODULE_LINES = 400
FUNCTION_LINES = 50
"""lines of code of a body: no signature, docstring, blank line or comment"""
SUMMARY_LENGTH = 100
"""characters of the first line of a module docstring, which is also its line in the README"""
EXAMPLES = 30
"""docstrings with a runnable example, at least"""
MATCH_LENGTH = 25
"""characters from which `match=` is a sentence"""
RECORD_OF_WORDS = "0031-plain-words-and-packages.md"
"""the decision record that names words that were replaced"""
AXES = set("batch channels bands frames clips tracks tags samples freq time".split())
VAGUE_MODULES = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
HEAVY = tuple("torch lightning_fabric ray fastapi sklearn scipy librosa av matplotlib onnx httpx mutagen".split())
"""packages that the core environment does not have"""
NEEDS_EXTRA = (
    "nets/", "training/", "learning/", "distillation/", "plots/", "file_tags/", "serving/", "onnx_export/", "browser/",
    "paper/figure1.py", "paper/reproduce.py"
)  # fmt: skip
"""modules that may import a heavy package when they are imported"""

DIALECT = re.compile(
    r"hear(s|d|ing)?|tells?|told|testimon(y|ies)|testif(y|ies|ied)|judg(e[sd]?|ing)|sa(y|ys|id)|strangers?|guests?"
    r"|wings?|desk|manners?|vouch(es|ed)?|refus(e[sd]?|ing|als?)|rooms?|houses?|doors?|furniture|remember(s|ed)?"
    r"|promis(e[sd]?)|obey(s|ed)?|opinions?|lessons?|kindly|milliard"
)
"""words that are not the field's: a computation has no verb of hearing or speaking, a module is not a room"""
NOT_NAMES = DIALECT.pattern + r"|apart|each|found|known|came|thing|how|here|there|given|made"
"""words that no name may be: they carry no information"""
FILE_METHOD = "tell"
"""a method of file objects"""
GENRE_NAMES = ("House", "party, dance, House", "genre---house")
"""tags of published networks, whose genre is a word of the above"""
EXCEPTED = (FILE_METHOD, *GENRE_NAMES)
"""strings that are not ours to choose"""

Definition = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[str, str], Iterator[str]]
"""from a path below the package and a source text to descriptions of faults"""


# Reading source text

parse = functools.cache(ast.parse)


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """All nodes of a source text."""
    return tuple(ast.walk(parse(source)))


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
    for node, public in definitions(parse(source)):
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
    for node in nodes(source):
        if isinstance(node, ast.Call):
            yield dotted(node.func), {keyword.arg: keyword.value for keyword in node.keywords}, node


def imports(source: str) -> Iterator[tuple[str, str, ast.stmt]]:
    """Every import: the module, the name taken from it (or nothing), where."""
    for node in nodes(source):
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


# The conventions


def module_docstrings_are_short(path: str, source: str) -> Iterator[str]:
    """A first line that is a sentence of its own, and a few lines after it at most."""
    text = ast.get_docstring(parse(source)) or ""
    summary, _, rest = text.partition("\n")
    if not summary.endswith(".") or (summary[0].islower() and not summary.startswith("moodfield")):
        yield "its docstring should begin with one sentence on one line"
    if len(summary) > SUMMARY_LENGTH:
        yield f"the first line of its docstring has {len(summary)} characters; {SUMMARY_LENGTH} are enough"
    labels = re.findall(r"^(?:In|Out|Knows nothing of):", rest, flags=re.MULTILINE)
    if labels:
        yield f"its docstring has lines that begin with {labels}"


def public_things_have_docstrings(_: str, source: str) -> Iterator[str]:
    """Every public function and class is described; `__init__` is described by its class."""
    for node in public_functions(source):
        if node.name != "__init__" and not ast.get_docstring(node):
            yield f"line {node.lineno}: {node.name} has no docstring"
    for thing, public in definitions(parse(source)):
        if isinstance(thing, ast.ClassDef) and public and not ast.get_docstring(thing):
            yield f"line {thing.lineno}: {thing.name} has no docstring"


def dataclasses_are_frozen(_: str, source: str) -> Iterator[str]:
    """A dataclass is a value; one that changes has the comment `# mutable: why` beside its decorator."""
    lines = source.splitlines()
    for node in (node for node in nodes(source) if isinstance(node, ast.ClassDef)):
        for mark in node.decorator_list:
            call = mark if isinstance(mark, ast.Call) else None
            if dotted(call.func if call else mark).rpartition(".")[2] != "dataclass":
                continue
            frozen = call and any(k.arg == "frozen" and is_literal(k.value, True) for k in call.keywords)
            if not frozen and "# mutable: " not in lines[mark.lineno - 1]:
                yield f"line {mark.lineno}: {node.name} is not frozen"


def config_fields_are_documented(_: str, source: str) -> Iterator[str]:
    """Every field of a config, card or recipe has a docstring under it: meaning, unit, range."""
    for node in nodes(source):
        if not isinstance(node, ast.ClassDef) or not (node.name.endswith("Config") or node.name in {"Card", "Recipe"}):
            continue
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
                name = ast.unparse(field.target)
                if not name.startswith("_") and not (after and is_text(after)):
                    yield f"line {field.lineno}: {node.name}.{name} has no docstring under it"


def no_function_changes_globals(_: str, source: str) -> Iterator[str]:
    """No function changes the state of its module."""
    for node in nodes(source):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"


def only_commands_print(path: str, source: str) -> Iterator[str]:
    """The library logs or returns; `cli` prints."""
    for name, _, node in calls(source):
        if name == "print" and Path(path).parts[0] != "cli":
            yield f"line {node.lineno}: print"


OPEN_ENDED = (("create", "changes"), ("op", "attributes"), ("ops", "attributes"))
"""functions and their `**kwargs` that others define"""


def signatures_are_complete(_: str, source: str) -> Iterator[str]:
    """No `**kwargs` in public, except the changes that `create` makes to a config, and attributes of ONNX nodes."""
    for node in public_functions(source):
        extra = node.args.kwarg
        if extra and (node.name, extra.arg) not in OPEN_ENDED:
            yield f"line {node.lineno}: {node.name}(**{extra.arg})"


def booleans_are_named(_: str, source: str) -> Iterator[str]:
    """A reader of `f(x, True)` cannot know what is true: booleans are keyword-only."""
    for node in public_functions(source):
        positional = [*node.args.posonlyargs, *node.args.args]
        defaults = [None] * (len(positional) - len(node.args.defaults)) + list(node.args.defaults)
        for argument, default in zip(positional, defaults, strict=True):
            note = ast.unparse(argument.annotation) if argument.annotation else ""
            noted = "bool" in re.split(r"\W+", note) and "[" not in note
            is_boolean = noted or is_literal(default, True) or is_literal(default, False)
            if is_boolean and (node.name, argument.arg) != ("train", "mode"):  # the signature of nn.Module
                yield f"line {node.lineno}: {node.name}({argument.arg}) is a boolean and positional"


def files_run_no_code(_: str, source: str) -> Iterator[str]:
    """No pickle, no eval, no shell: reading a file never runs code from it."""
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
    for node in nodes(source):
        if isinstance(node, ast.ExceptHandler):
            caught = {dotted(n) for n in ast.walk(node.type) if isinstance(n, ast.expr)} if node.type else broad
            silent = all(isinstance(s, ast.Pass | ast.Continue) or ast.unparse(s) == "..." for s in node.body)
            if node.type is None or (silent and caught & broad):
                yield f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}"
    for name, _keywords, node in calls(source):
        if name.endswith("suppress") and broad & {dotted(argument) for argument in node.args}:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def modules_are_small(_: str, source: str) -> Iterator[str]:
    """A longer module or function probably holds two ideas."""
    lines = source.splitlines()
    if len(lines) > MODULE_LINES:
        yield f"{len(lines)} lines; {MODULE_LINES} are enough"
    for node in nodes(source):
        if isinstance(node, Definition):
            body = node.body[1:] if is_text(node.body[0]) else node.body
            start = body[0].lineno if body else node.end_lineno or 0
            code = sum(1 for line in lines[start - 1 : node.end_lineno] if line.strip() and line.strip()[0] != "#")
            if code > FUNCTION_LINES:
                yield f"line {node.lineno}: {node.name} has {code} lines; {FUNCTION_LINES} are enough"


def module_names_are_specific(path: str, _: str) -> Iterator[str]:
    """A module for everything is a module about nothing."""
    for part in Path(path).with_suffix("").parts:
        if part in VAGUE_MODULES:
            yield f"{part} is no term of the field"


def modules_are_imported_not_functions(path: str, source: str) -> Iterator[str]:
    """`from moodfield import audio`, then `audio.read`; only classes, types and constants come by name."""
    for module, name, node in imports(source):
        if module.startswith("."):
            yield f"line {node.lineno}: a relative import"
        inside = f"{module}.{name}".removeprefix("moodfield.").replace(".", "/")
        is_module = f"{inside}.py" in SOURCES or f"{inside}/__init__.py" in SOURCES
        root = path == "__init__.py"  # it names the public functions for type checkers
        if module.partition(".")[0] == "moodfield" and re.match("[a-z]", name) and not is_module and not root:
            yield f"line {node.lineno}: {name} is a function of {module}"
        if Path(path).name == "__init__.py" and path not in {"__init__.py", "nets/__init__.py"}:
            yield f"line {node.lineno}: an __init__ re-exports nothing"


def words_are_plain(_: str, source: str) -> Iterator[str]:
    """Names, docstrings and messages use the words of the field (docs/glossary.md)."""
    for node in nodes(source):
        line = getattr(node, "lineno", 0)
        for name in names(node):
            if name == FILE_METHOD:
                continue
            for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name):
                if re.fullmatch(NOT_NAMES if word == name else DIALECT, word.lower()):
                    yield f"line {line}: the name {name}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in EXCEPTED:
            for word in re.findall(r"[A-Za-z]+", node.value):
                if DIALECT.fullmatch(word.lower()):
                    yield f"line {line}: the word {word}"


def names(node: ast.AST) -> Iterator[str]:
    """The names that a node introduces."""
    if isinstance(node, Definition | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


def axes_have_standard_names(_: str, source: str) -> Iterator[str]:
    """Shapes are written with the ten axis names, numbers, `...` and `_`."""
    kinds = re.compile(r"(Float|Int|UInt|Bool|Shaped|Num|Real|Inexact|Integer|Complex)\d*$")
    for node in nodes(source):
        if not isinstance(node, ast.Subscript) or not kinds.match(dotted(node.value).rpartition(".")[2]):
            continue
        shape = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else None
        if isinstance(shape, ast.Constant) and isinstance(shape.value, str):
            for word in re.findall(r"[A-Za-z]\w*", shape.value):
                if word not in AXES:
                    yield f"line {node.lineno}: axis {word}"


LONG = "def f():\n" + '    """A function."""\n' + "    x = 1\n" * (FUNCTION_LINES + 1)

CONVENTIONS: dict[Check, tuple[list[str], list[str]]] = {  # with examples: bad, good
    module_docstrings_are_short: (
        [
            "",
            '"""no capital."""',
            '"""No stop"""',
            f'"""{"Long " * 20}."""',
            '"""A module.\n\nIn: a. Out: b.\n"""',
            '"""Two\nlines."""',
        ],
        ['"""A module."""', '"""A module.\n\nMore about it.\n"""\nx = 1', '"""moodfield tags music."""'],
    ),
    public_things_have_docstrings: (
        ["def f(): ...", "class A: ...", 'class A:\n    """A."""\n    def f(self): ...'],
        ["def _f(): ...", "class _A:\n    def f(self): ...", 'def f():\n    """F."""\n    def g(): ...'],
    ),
    dataclasses_are_frozen: (
        ["@dataclass\nclass A: ...", "@dataclasses.dataclass(frozen=False)\nclass A: ..."],
        ["@dataclass(frozen=True)\nclass A: ...", "@dataclass  # mutable: it counts\nclass A: ...", "class A: ..."],
    ),
    config_fields_are_documented: (
        ["class MelConfig:\n    a: int = 1", "class Card:\n    a: int\n    b: int\n    'B.'"],
        ["class MelConfig:\n    a: int = 1\n    'A.'", "class Layer:\n    a: int", "class Card:\n    a: ClassVar[int]"],
    ),
    no_function_changes_globals: (
        ["def f():\n    global x"],
        ["def f():\n    x = 1\n    def g():\n        nonlocal x"],
    ),
    only_commands_print: (["print(1)"], ["console.print(1)", "'print(1)'"]),
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
    modules_are_small: (["x = 1\n" * (MODULE_LINES + 1), LONG], [LONG.replace("    x = 1\n", "    # why\n\n", 1)]),
    modules_are_imported_not_functions: (
        ["from . import a", "from moodfield.audio import read", "from moodfield.nets.blocks import roll"],
        ["from moodfield import audio", "from moodfield.nets import blocks", "from moodfield.mel import MelConfig"],
    ),
    words_are_plain: (
        ["def hear(): ...", "raise E('the room')", "f'{x} says'", "class FrontDesk: ...", "found = 1", "told_x = 1"],
        ["shear = 1", "raise E('the broom')", "how_long = 1", "x.found", "'a sayer'"],
    ),
    axes_have_standard_names: (
        ['x: Float32[np.ndarray, "bands hops"]', 'x: Float[Tensor, "n"]'],
        ['x: Float32[np.ndarray, "bands frames"]', 'x: Float[Tensor, "*batch 1 time"]', 'x: Literal["hops", "bands"]'],
    ),
}


@pytest.mark.parametrize("check", [*CONVENTIONS, module_names_are_specific], ids=lambda check: check.__name__)
def test_modules_keep_the_convention(check: Check) -> None:
    faults = [f"{path}: {fault}" for path, source in SOURCES.items() for fault in check(path, source)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("check", CONVENTIONS, ids=lambda check: check.__name__)
def test_the_convention_can_be_broken(check: Check) -> None:
    bad, good = CONVENTIONS[check]
    assert [source for source in bad if not list(check("module.py", source))] == []
    assert [source for source in good if list(check("module.py", source))] == []


def test_some_conventions_depend_on_the_path() -> None:
    assert list(module_names_are_specific("nets/utils.py", ""))
    assert list(module_names_are_specific("common/blocks.py", ""))
    assert not list(module_names_are_specific("nets/blocks.py", ""))
    assert not list(only_commands_print("cli/console.py", "print(1)"))
    assert list(modules_are_imported_not_functions("training/__init__.py", "from moodfield.training.loop import Loop"))
    assert not list(modules_are_imported_not_functions("__init__.py", "from moodfield.tagger import load"))


# Tests assert a type and a token of a message


def sentences(source: str) -> Iterator[str]:
    """Arguments `match=` that are long enough to be a sentence."""
    for _, keywords, node in calls(source):
        match = keywords.get("match")
        if isinstance(match, ast.Constant) and isinstance(match.value, str) and len(match.value) >= MATCH_LENGTH:
            yield f"line {node.lineno}: {match.value}"


def test_tests_assert_no_sentences() -> None:
    faults = [
        f"{path.name}: {fault}"
        for path in (ROOT / "tests").glob("test_*.py")
        for fault in sentences(path.read_text("utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_a_sentence_in_a_test_is_found() -> None:
    assert list(sentences(f"raises(E, match={'a long message of an error'!r})"))
    assert not list(sentences("raises(E, match='hop_length')"))


# Documents


def test_documents_use_plain_words() -> None:
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "music").glob("*.md"), ROOT / "Makefile"]
    faults = [
        f"{path.relative_to(ROOT)}, line {number}: {word}"
        for path in paths
        if path.name != RECORD_OF_WORDS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for word in re.findall(r"[A-Za-z]+", line)
        if DIALECT.fullmatch(word.lower())
    ]
    assert not faults, "\n".join(faults)


# Examples in docstrings: pytest runs them (see pyproject.toml)


def test_many_docstrings_have_an_example() -> None:
    parser = doctest.DocTestParser()
    documented = [
        f"{path}: {getattr(node, 'name', '')}"
        for path, source in SOURCES.items()
        for node in nodes(source)
        if isinstance(node, Definition | ast.ClassDef | ast.Module)
        and parser.get_examples(ast.get_docstring(node) or "")
    ]
    assert len(documented) >= EXAMPLES, documented


# The tree in the README


def read_tree(readme: str) -> dict[str, str]:
    """The summary of each path below the package, from the README's tree of `src/moodfield`."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    tree: dict[str, str] = {}
    for block in blocks:
        above: list[tuple[int, str]] = []
        for line in block.splitlines():
            name, _, summary = line.lstrip(" │├└─").partition(" ")
            indent = len(line) - len(line.lstrip(" │├└─"))
            above = [(depth, folder) for depth, folder in above if depth < indent]
            path = "".join(folder for _, folder in above) + name
            if name.endswith("/"):
                above.append((indent, name))
            inside = re.match(r"(?:.*/)?moodfield/(.+)", path)
            if inside and (name.endswith((".py", "/"))):
                tree[inside[1]] = re.sub(r"^\[\w+\]\s*", "", summary.strip())
    return tree


def tree_faults(readme: str, sources: Mapping[str, str]) -> list[str]:
    """Where the README's tree differs from the package: modules missing from either, other summaries."""
    tree = read_tree(readme)
    summaries = {
        re.sub(r"/__init__\.py$", "/", path): (ast.get_docstring(parse(source)) or "").partition("\n")[0]
        for path, source in sources.items()
    }
    faults = [f"{path} is not in the README's tree" for path in summaries if path not in tree]
    faults += [
        f"{path}: {tree[path]!r} in the README, {summary!r} in the module"
        for path, summary in summaries.items()
        if path in tree and tree[path].rstrip(".").casefold() != summary.rstrip(".").casefold()
    ]
    faults += [
        f"{path} is in the README's tree only" for path in tree if path.endswith(".py") and path not in summaries
    ]
    return faults


def test_the_tree_in_the_readme_is_the_package() -> None:
    faults = tree_faults((ROOT / "README.md").read_text(encoding="utf-8"), SOURCES)
    assert not faults, "\n".join(faults)


def test_a_wrong_tree_is_noticed() -> None:
    package = {"__init__.py": '"""A package."""', "mel.py": '"""A mel."""', "nets/__init__.py": '"""N."""'}
    lines = ["src/moodfield/", "├── __init__.py   a package", "├── mel.py        a mel", "└── nets/         [train] n"]

    def faults(*lines: str) -> list[str]:
        return tree_faults("\n".join(["```", *lines, "```"]) + "\n", package)

    assert faults(*lines) == []
    assert (
        faults("├── README.md   this", "├── src/", "│   └── moodfield/", *(f"│       {line}" for line in lines[1:]))
        == []
    )
    assert faults(*lines[:2], lines[3]) == ["mel.py is not in the README's tree"]
    assert "A mel." in faults(*lines[:2], "├── mel.py   a map", lines[3])[0]
    assert faults(*lines, "│   └── vgg.py   v") == ["nets/vgg.py is in the README's tree only"]


# What is imported with a module


def imported_by(code: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after running `code`."""
    ending = "\nimport sys; print('\\nloaded:', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


WITHOUT_EXTRAS = f"""
import importlib, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)
sys.meta_path.insert(0, Blocker())
"""


def test_the_root_package_is_light() -> None:
    heavy = {"numpy", "soundfile", "soxr", "onnxruntime", "pydantic", "rich", "typer", *HEAVY}
    assert not imported_by("import moodfield") & heavy
    assert imported_by("import numpy") & heavy == {"numpy"}


def test_help_is_light() -> None:
    code = "import sys\nfrom moodfield.cli import main\nsys.argv = ['moodfield', '--help']\n"
    loaded = imported_by(code + "try: main.main()\nexcept SystemExit: pass")
    assert "moodfield" in loaded
    assert not loaded & {"onnxruntime", *HEAVY}


def test_modules_outside_the_extras_need_no_heavy_package() -> None:
    paths = [path for path in SOURCES if not path.startswith(NEEDS_EXTRA) and path != "__main__.py"]
    modules = [".".join(["moodfield", *Path(path).with_suffix("").parts]).removesuffix(".__init__") for path in paths]
    code = f"import importlib\nfor module in {modules!r}: importlib.import_module(module)"
    loaded = imported_by(WITHOUT_EXTRAS + code)
    assert loaded >= {"moodfield", "numpy"}
    assert not imported_by(code) & set(HEAVY), "imported although it is not needed"


def test_blocked_packages_cannot_be_imported() -> None:
    with pytest.raises(AssertionError, match="torch is not installed"):
        imported_by(WITHOUT_EXTRAS + "import torch")


# Nothing outside the project is named

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
