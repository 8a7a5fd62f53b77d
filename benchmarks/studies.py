"""Collect finished studies into docs/studies.md and docs/studies/*.svg.

    python benchmarks/studies.py [--runs studies] [--docs docs] [--images CIFAR-10]

Every study of the catalogue gets its section between the marks in docs/studies.md: what is asked, what the paper found, and,
for each folder below --runs that holds its results.json, the verdicts, tables, notes and figures. `--images` says in words
what the images of a folder were, which the studies themselves don't know.
"""

import argparse
import json
import shutil
from pathlib import Path

from vitreous.studies.catalog import STUDIES, find

BEGIN, END = "<!-- results: written by benchmarks/studies.py -->", "<!-- results: end -->"


def collected(runs: Path) -> dict[str, list[Path]]:
    """Return the folders of results by study, in the order of their names."""
    found: dict[str, list[Path]] = {name: [] for name in STUDIES}
    for results in sorted(runs.glob("*/results.json")):
        document = json.loads(results.read_bytes())
        if document["scale"] != "smoke" and document["study"] in found:
            found[document["study"]].append(results.parent)
    return found


def section(name: str, folders: list[Path], pictures: Path, images: str | None) -> str:
    """Return a study's part of the document; its figures are copied to `pictures`."""
    study = find(name)
    parts = [
        f"## {study.title}",
        study.question,
        f"The paper: {study.paper}",
        f"Here: {study.here[0].lower()}{study.here[1:]}",
    ]
    if not folders:
        parts.append("Not run yet.")
    for folder in folders:
        parts.append(f"### {name}, {json.loads((folder / 'results.json').read_bytes())['scale']} scale: {folder.name}")
        words = (folder / "table.md").read_text(encoding="utf-8").strip()
        parts.append(words.replace("Data: images:", f"Data: {images}:", 1) if images else words)
        parts += [drawn(folder, one, pictures) for one in json.loads((folder / "results.json").read_bytes())["figures"]]
    return "\n\n".join([*parts, f"`vitreous study {name}`; its file is `studies/{module(name)}.py`."])


def module(name: str) -> str:
    """Return the name of a study's file."""
    return STUDIES[name][0].rsplit(".", 1)[1]


def drawn(folder: Path, figure: dict[str, str], pictures: Path) -> str:
    """Copy a figure and return the Markdown that shows it."""
    pictures.mkdir(parents=True, exist_ok=True)
    target = pictures / f"{folder.name}-{figure['name']}.svg"
    shutil.copyfile(folder / f"{figure['name']}.svg", target)
    return f"![{figure['caption']}]({pictures.name}/{target.name})"


def written(document: str, sections: list[str]) -> str:
    """Return the document with what stands between the marks replaced."""
    before, _, rest = document.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n" + "\n\n".join(sections) + f"\n\n{END}{after}"


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("studies"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--images", help="what the images of a folder were, such as CIFAR-10")
    options = parser.parse_args()
    page = options.docs / "studies.md"
    sections = [
        section(name, folders, options.docs / "studies", options.images)
        for name, folders in collected(options.runs).items()
    ]
    page.write_text(written(page.read_text(encoding="utf-8"), sections), encoding="utf-8")
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
