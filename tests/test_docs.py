"""The documents keep their word: links lead somewhere, the tour runs, the README's Python runs, commands exist."""

import doctest
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from vitreous.cli.main import COMMANDS
from vitreous.cli.options.commands import OPTIONS, load_options
from vitreous.cli.parse import parse
from vitreous.cli.train import parse_train
from vitreous.cli.translate import batch_auto
from vitreous.data.dataset import Facts
from vitreous.images.config import DecodeConfig
from vitreous.model.factory import create
from vitreous.recipes.catalog import FROM_WEIGHTS, RECIPES, configure
from vitreous.recipes.options import RecipeOptions
from vitreous.shapes import Size
from vitreous.weights.model_folder import ModelFolder, save_model

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ENGLISH = [one for one in DOCUMENTS if not one.is_relative_to(ROOT / "docs" / "zh") and one.name != "README.zh-CN.md"]
"""The Chinese documents have the same code: tests/test_docs_zh.py."""
FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")

TOKENS = [[0.1, 0.2, 0.3, 0.4], *([n + 0.0, n + 0.1, n + 0.2, n + 0.3] for n in (1, 2, 3, 4))]
POSITIONS = [[0.01, 0.02, 0.03, 0.04], *([n / 10 + i / 100 for i in range(4)] for n in (1, 2, 3, 4))]
SUM = [
    [0.11, 0.22, 0.33, 0.44],
    [1.10, 1.21, 1.32, 1.43],
    [2.20, 2.31, 2.42, 2.53],
    [3.30, 3.41, 3.52, 3.63],
    [4.40, 4.51, 4.62, 4.73],
]
"""The worked example, as the project was given it."""


def blocks(document, *languages):
    """Yield (line number of the first line of code, code) of a document's fenced blocks."""
    text = document.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match["language"] in languages:
            yield text.count("\n", 0, match.start("code")) + 1, match["code"]


def prose(document):
    """Return a document without its fenced blocks."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def anchors(document):
    """Return the anchors that GitHub gives a document's headings, and those that are written down."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    written = re.findall(r'^<a id="([\w-]+)"></a>$', prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | set(written)


def relative(document):
    return str(document.relative_to(ROOT))


def test_the_documents_are_there():
    for name in ("README.md", "README.zh-CN.md", "docs/tour.md", "docs/architecture.md", "docs/recipes.md"):
        assert ROOT / name in DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document):
    for target in LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), f"{document.name} links to {target}, which is not there"
        assert place.is_relative_to(ROOT), f"{document.name} links to {target}, outside the repository"
        if anchor:
            assert anchor in anchors(place), f"{document.name} links to {target}; headings: {sorted(anchors(place))}"


def test_every_document_can_be_reached_from_the_readme():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        document = todo.pop()
        reached.add(document)
        for target in LINK.findall(prose(document)):
            place = (document.parent / target.partition("#")[0]).resolve()
            found = sorted(place.glob("*.md")) if place.is_dir() and place != ROOT else [place]
            todo += [one for one in found if one in DOCUMENTS and one not in reached]
    assert reached == set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_paths_in_code_quotes_exist(document):
    """`training/loop.py` may be said from the repository or from the package."""
    for quoted in re.findall(r"`([\w./-]+\.(?:py|md|toml|txt))`", prose(document)):
        places = (ROOT / quoted, ROOT / "src" / "vitreous" / quoted, document.parent / quoted)
        assert any(place.exists() for place in places), f"{document.name} speaks of {quoted}, which is not there"


OTHERS = {"qlinear_pointwise", "snapshot_download"}
"""Names that the documents quote from other code bases."""


def test_quoted_names_are_in_the_code():
    """`compute_rollout` and `insight.methods`: the last word of a name with an underscore is somewhere in the code."""
    files = [path for folder in ("src", "tests", "benchmarks", "examples") for path in ROOT.glob(f"{folder}/**/*.py")]
    words = set().union(
        *(re.findall(r"\w+", path.read_text(encoding="utf-8")) for path in files if path != Path(__file__))
    )
    for document in DOCUMENTS:
        for quoted in re.findall(r"`([a-z_][a-z0-9_.]*_[a-z0-9_.]*)(?:\([^`]*\))?`", prose(document)):
            assert quoted.split(".")[-1] in words | OTHERS, (
                f"{relative(document)} speaks of {quoted}, which is nowhere in the code"
            )


def test_python_of_the_documents_knows_its_names(tmp_path):
    for document in ENGLISH:
        code = "".join(code for _, code in blocks(document, "python"))
        (tmp_path / f"{relative(document).replace('/', '_')}.py").write_text(code, encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == len(ENGLISH)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821,F822,E9", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("document", [one for one in ENGLISH if one != ROOT / "README.md"], ids=relative)
def test_commands_exist_with_their_options(document):
    """What README.md shows is executed, by test_readme.py."""
    for line, code in blocks(document, "bash"):
        for command in code.splitlines():
            for part in command.split("|"):
                words = shlex.split(part, comments=True)
                if words[:1] != ["vitreous"]:
                    continue
                assert words[1] in COMMANDS, f"{document.name}:{line}: {part}"
                if words[1] == "train":
                    parse_train(batch_auto(words[2:]))
                elif words[1] in OPTIONS:
                    parse(load_options(words[1]), words[2:], words[1])


RECIPE = re.compile(
    r"<!-- recipe (?P<name>[\w-]+): (?P<train>\d+) images of (?P<rows>\d+)x(?P<cols>\d+), (?P<channels>\d) channels?, "
    r"(?P<classes>\d+) classes -->\n(?P<table>(?:\|.*\n)+)"
)


def request(match, tmp_path):
    """Return what a table of recipes.md is about: the facts, and for fine-tuning the weights of a model of that size."""
    train, rows, cols, channels, classes = (int(match[k]) for k in ("train", "rows", "cols", "channels", "classes"))
    names = tuple(f"class {number:04}" for number in range(classes))
    facts = Facts(names, train, classes, channels, Size(rows, cols), (train // classes,) * classes)
    if match["name"] not in FROM_WEIGHTS:
        return RecipeOptions(facts)
    config = configure("small-vit", RecipeOptions(facts))
    save_model(tmp_path / "weights", ModelFolder(create(config.model), config.preprocess, DecodeConfig(), names))
    return RecipeOptions(facts, weights=str(tmp_path / "weights"))


def test_recipes_set_what_the_document_says(tmp_path):
    tables = list(RECIPE.finditer((ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")))
    assert {match["name"] for match in tables} == set(RECIPES)
    for match in tables:
        config = configure(match["name"], request(match, tmp_path))
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in match["table"].splitlines()[2:]]
        assert len(rows) > 5
        for setting, said, _ in rows:
            value = config
            for part in setting.strip("`").split("."):
                value = getattr(value, part)
            value = tuple(value) if isinstance(value, tuple) else value
            assert str(value) == said, f"recipes.md, {match['name']}: {setting} is {value}, not {said}"


def test_storeys_are_drawn_as_they_are_enforced():
    (drawn,) = (code for _, code in blocks(ROOT / "docs" / "architecture.md", "storeys"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(one["layers"] for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    assert drawn.splitlines() == layers
    rooms = {room for storey in layers for room in storey.split(" | ")}
    assert set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", prose(ROOT / "docs" / "architecture.md"), re.MULTILINE)) == {
        ", ".join(f"`{room}`" for room in storey.split(" | ")) for storey in layers
    }
    package = ROOT / "src" / "vitreous"
    here = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms == here - {"__init__", "__main__"}


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """Run the tour as a reader would: in a process of its own, from an empty folder."""
    command = [sys.executable, __file__, ROOT / "docs" / "tour.md"]
    done = subprocess.run(command, cwd=tmp_path_factory.mktemp("tour"), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(document):
    """Execute a document's sessions, one after the other, with the same names; print what came of it as JSON."""
    names, report, executed = {}, [], 0
    for line, code in blocks(document, "pycon"):
        test = doctest.DocTestParser().get_doctest(code, names, document.name, str(document), line - 1)
        executed += len(test.examples)
        doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
        names = test.globs
        if "same" in names and "example" not in names:
            names["example"] = [
                torch.cat([names["given"]["class_token"][None], names["found"]["patches"][0]]).tolist(),
                names["given"]["positions.embedding"].tolist(),
                names["found"]["embedded"][0].tolist(),
            ]
    print(json.dumps({"executed": executed, "report": "".join(report), "example": names["example"]}))


@pytest.mark.slow
def test_the_tour_shows_what_happens(tour):
    assert not tour["report"], tour["report"]
    assert tour["executed"] > 30


@pytest.mark.slow
def test_the_tour_has_the_worked_examples_numbers(tour):
    for found, expected in zip(tour["example"], (TOKENS, POSITIONS, SUM), strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0.0, atol=1e-6)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
