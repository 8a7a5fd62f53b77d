"""docs/studies.md tells of every study, and is written from what the studies left."""

import json
import os
import runpy
import sys
from pathlib import Path

from tests.support import forked

from vitreous.studies.catalog import STUDIES, find

ROOT = Path(__file__).resolve().parents[2]


def test_every_study_has_its_section():
    document = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    for name in STUDIES:
        study = find(name)
        for words in (f"## {study.title}\n", study.question, study.paper, f"`vitreous study {name}`"):
            assert words in document, f"docs/studies.md lacks {words!r}; run python benchmarks/studies.py"


def collect() -> int:
    runpy.run_path(str(ROOT / "benchmarks" / "studies.py"), run_name="__main__")
    return 0


def test_results_are_collected(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "studies.md").write_text(
        "# Head\n\n<!-- results: written by benchmarks/studies.py -->\nold\n<!-- results: end -->\n\ntail\n"
    )
    for name, scale in (("pooling-laptop", "laptop"), ("pooling-smoke", "smoke")):
        folder = tmp_path / "studies" / name
        folder.mkdir(parents=True)
        results = {"study": "pooling", "scale": scale, "figures": [{"name": "figure", "caption": "Dots."}]}
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "table.md").write_text(f"Scale: {scale}. Data: images: 20,000 for training.\n\n**Seen again**: it.\n")
        (folder / "figure.svg").write_text("<svg/>")
    monkeypatch.setattr(sys, "argv", ["studies.py", "--images", "CIFAR-10"])
    for _ in range(2):
        done = forked.run(collect, lambda: os.chdir(tmp_path))
        assert done.returncode == 0, done
    text = (tmp_path / "docs" / "studies.md").read_text()
    assert f"Here: {find('pooling').here[:1].lower()}{find('pooling').here[1:]}" in text
    assert text.startswith("# Head\n\n<!-- results")
    assert text.endswith("<!-- results: end -->\n\ntail\n")
    assert "old" not in text.split("tail")[0].split("###")[0][:80]
    assert "Data: CIFAR-10: 20,000 for training." in text
    assert text.count("**Seen again**: it.") == 1
    assert "![Dots.](studies/pooling-laptop-figure.svg)" in text
    assert [path.name for path in (tmp_path / "docs" / "studies").iterdir()] == ["pooling-laptop-figure.svg"]
