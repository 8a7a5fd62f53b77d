"""Rules of the house that no linter knows."""

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from tests.support import forked

import vitreous
from vitreous.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "vitreous"
MOST_LINES = 400
VAGUE = {"utils", "util", "common", "misc", "helpers", "legacy", "v2"}
TEXT = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".json", ".html", ".css", ".js", ""}
PLACES = ("/" + "work/", "/" + "tmp/w", "/" + "root/", "/" + "home/")
"""Folders of somebody's machine."""
UNFINISHED = ("TO" + "DO", "FIX" + "ME")
WITHOUT_TORCH = [
    "vitreous",
    "vitreous.errors",
    "vitreous.shapes",
    "vitreous.settings",
    "vitreous.model.count",
    "vitreous.cli.main",
    *sorted(f"vitreous.cli.options.{path.stem}" for path in (PACKAGE / "cli" / "options").glob("*.py")),
    *sorted({module for module, _ in COMMANDS.values()}),
    "vitreous.cli.parse",
    "vitreous.api.loading",
    "vitreous.engines.onnxruntime_engine",
    *sorted(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("config.py")),
]


def tracked():
    """List the files that git tracks; without git, those in the folders that it would."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = [ROOT / name for name in ("src", "tests", "docs", "benchmarks", "examples")]
        found = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
        found += list(ROOT.glob("*"))
    return sorted(path for path in found if path.is_file())


FILES = tracked()
SOURCES = [path for path in FILES if path.suffix == ".py"]
TEXTS = [path for path in FILES if path.suffix in TEXT]


@functools.cache
def parsed(path):
    """Return a module's syntax tree; most tests look at all of them."""
    return ast.parse(path.read_bytes())


def named(path):
    return str(path.relative_to(ROOT))


def loaded_by(*modules):
    """Import modules in a fresh process, one after the other; return those after which torch was there, in order."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        print(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_there_is_something_to_look_at():
    assert PACKAGE / "model" / "vit.py" in SOURCES
    assert ROOT / "README.md" in TEXTS


def test_files_are_short():
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_names_say_something():
    assert [named(path) for path in SOURCES if VAGUE & {part.removesuffix(".py") for part in path.parts}] == []


@pytest.mark.parametrize("words", [PLACES, UNFINISHED], ids=["places", "unfinished"])
def test_nothing_of_one_machine_and_nothing_unfinished(words):
    found = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            found += [f"{named(path)}:{number}: {word}" for word in words if word in line]
    assert found == []


def test_models_know_of_no_other_process():
    """What import-linter, which sees torch as one, can't."""
    found = []
    for path in (PACKAGE / "model").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{named(path)}: {name}" for name in names if name.startswith("torch.distributed")]
    assert found == []
    assert "torch.distributed" in (PACKAGE / "training" / "sharding.py").read_text(encoding="utf-8")


def test_every_module_says_what_it_is():
    places = (PACKAGE, ROOT / "benchmarks", ROOT / "examples")
    modules = [path for path in SOURCES if any(path.is_relative_to(place) for place in places)]
    silent = [path for path in modules if not ast.get_docstring(parsed(path))]
    assert [named(path) for path in silent] == []


def test_settings_and_help_do_without_torch():
    assert "vitreous.training.config" in WITHOUT_TORCH
    assert loaded_by(*WITHOUT_TORCH) == []


@pytest.mark.slow
def test_the_check_above_can_fail():
    assert loaded_by("vitreous.model.vit") == ["vitreous.model.vit"]


def test_public_names_stay_what_they_are_whatever_is_imported():
    """A submodule called train, say, would replace the function of that name (docs/decisions/0004)."""
    done = forked.run(import_everything)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def import_everything():
    """Import the package, where it was not imported before, and then every module; print the names that were replaced."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "vitreous"]:
        del sys.modules[name]
    fresh = importlib.import_module("vitreous")
    before = {name: getattr(fresh, name) for name in fresh.__all__}
    for module in pkgutil.walk_packages(fresh.__path__, "vitreous."):
        module.name.endswith("__main__") or importlib.import_module(module.name)
    print([name for name in fresh.__all__ if getattr(fresh, name) is not before[name]])
    return 0


NAMED = {
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "scikit-learn": "sklearn",
    "scikit-image": "skimage",
    "myst-nb": "myst_nb",
    "ipython": "IPython",
}
"""Packages that are imported by another name."""


def declared():
    """Return the packages that pyproject.toml names at run time, and those of each extra, by what is imported."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def modules(wanted):
        names = {re.match(r"[\w.-]+", want)[0] for want in wanted}
        return {NAMED.get(name, name) for name in names}

    return modules(project["dependencies"]), {
        name: modules(wanted) for name, wanted in project["optional-dependencies"].items()
    }


@functools.cache
def imported():
    """Return the top-level modules that the package imports, anywhere."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0] for name in names}
    return found


WITHOUT_FUNCTION = {"predict", "completion"}
"""The Predictor that `vitreous.load` returns is what the first one calls; the second is for shells."""
OTHERWISE_CALLED = {"push": "push_to_hub"}
"""By what the Hub's own library and others call the same thing."""


def test_every_command_has_its_function():
    from vitreous.cli.main import COMMANDS

    for name in {OTHERWISE_CALLED.get(command, command) for command in set(COMMANDS) - WITHOUT_FUNCTION}:
        function = getattr(vitreous, name)
        assert name in vitreous.__all__ and function.__module__.startswith("vitreous.api."), name
        for words in (">>> ", "Args:", "Raises:"):
            assert words in function.__doc__, f"vitreous.{name} doesn't say {words}"
        told = inspect.signature(function).parameters
        assert all(f"\n        {argument}:" in function.__doc__ for argument in told), name
        results = typing.get_args(typing.get_type_hints(function)["return"]) or [
            typing.get_type_hints(function)["return"]
        ]
        for kind in results:
            shown = hasattr(kind, "_repr_html_")
            assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen and shown, (name, kind)


def test_commands_only_parse_call_and_print():
    """What a command does lies below: nothing of `cli/` is imported from elsewhere, nor does it reach for metrics and models."""
    below = {
        "data",
        "drawing",
        "evaluation",
        "insight",
        "metrics",
        "model",
        "objectives",
        "reports",
        "weights",
        "training",
    }
    allowed = {
        "vitreous.data.config", "vitreous.data.dataset", "vitreous.data.listing.ignored_files",
        "vitreous.evaluation.probes.cka", "vitreous.evaluation.probes.feature_file", "vitreous.evaluation.probes.options",
        "vitreous.metrics.headline", "vitreous.training.changes", "vitreous.training.config", "vitreous.training.distributed", "vitreous.training.duration", "vitreous.training.launch", "vitreous.training.other_names",
        "vitreous.training.progress", "vitreous.training.reporter", "vitreous.training.results", "vitreous.training.run", "vitreous.training.settings_check",
    }  # fmt: skip
    found = set()
    for path in sorted((PACKAGE / "cli").rglob("*.py")):
        tree = parsed(path)
        hints = {node for block in ast.walk(tree) if isinstance(block, ast.If) for node in ast.walk(block)}
        for node in set(ast.walk(tree)) - hints:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vitreous."):
                found |= {node.module} if node.module.split(".")[1] in below else set()
    assert found - allowed == set()


def test_every_dependency_at_run_time_is_imported():
    wanted, _ = declared()
    assert wanted - imported() == set()


def test_every_extra_belongs_to_code():
    _, extras = declared()
    for name, place in (("demo", "examples/*.py"), ("site", "docs/site/conf.py")):
        text = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob(place))
        assert {module for module in extras.pop(name) if not re.search(rf"\b{module}\b", text)} == set()
    assert {
        name: lacking for name, wanted in extras.items() if name != "dev" and (lacking := wanted - imported())
    } == {}


def test_everything_imported_is_declared():
    wanted, extras = declared()
    known = wanted.union(*(modules for name, modules in extras.items() if name != "dev"))
    known.add("jaxtyping")  # only where it has been imported before (shapes.py)
    assert imported() - known - sys.stdlib_module_names - {"vitreous", "__future__"} == set()


def test_every_dependency_is_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"^([\w.-]+)==", pinned, re.MULTILINE)}
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", want)[0]).lower() for want in wanted}
    assert names - pins == set()


WITH_CUDA = ("nvidia-", "cuda-", "triton")
"""What torch needs where it is built for CUDA; the build for a CPU doesn't say so."""


def test_nothing_is_pinned_that_nothing_needs():
    """What is installed says what it needs: on any system, though only for Pythons and extras that are asked for."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    def normal(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    todo, needed = [*project["dependencies"], *(want for wanted in extras for want in wanted)], set()
    while todo:
        requirement = Requirement(todo.pop())
        if str(requirement) in needed:
            continue
        needed |= {str(requirement), normal(requirement.name)}
        with contextlib.suppress(PackageNotFoundError):  # of another system
            for one in requires(requirement.name) or []:
                extra = re.search(r"extra == [\"']([^\"']+)", one)
                todo += [one] if extra is None or extra[1] in requirement.extras else []
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert {normal(name) for name in pinned if not name.startswith(WITH_CUDA)} - needed == set()


def glossary():
    """Return the rows of the glossary: a word, and those that it stands for."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("\n## Words")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z ]+) \| .* \|(?: ([a-z, ]+))? \|$", section, re.M)
    return [(word, replaced.split(", ") if replaced else []) for word, replaced in rows if word != "word"]


def test_what_the_glossary_replaces_is_in_no_name_of_a_module_or_class():
    replaced, found = {old: word for word, words in glossary() for old in words}, []
    assert {"wish", "label sets", "spread", "part", "outcome", "findings", "choice"} <= set(replaced)
    for path in PACKAGE.rglob("*.py"):
        names = [
            path.stem,
            *(node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)),
        ]
        for name in names:
            words = " ".join(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name))
            found += [
                f"{named(path)}: {name}, {old} is {new}" for old, new in replaced.items() if f" {old} " in f" {words} "
            ]
    assert not found


def test_the_glossary_is_short():
    assert 10 < len(glossary()) <= 30


FIRST_WORDS = {"embed", "seed"}
"""Words that end in -ed and are no participles."""
NAMED_BY_OTHERS = {"masked_patches"}
"""Functions whose names are those of something else: of a recipe."""


def test_functions_are_verbs_and_no_participles():
    """A function does something: `resize`, not `resized`. A property may name a state."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.name.lstrip("_").partition("_")[0]
                accepted = first in FIRST_WORDS or node.name in NAMED_BY_OTHERS
                if first.endswith("ed") and not accepted and not is_property(node):
                    found.append(f"{named(path)}:{node.lineno}: {node.name}")
    assert found == []


def is_property(function):
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)
