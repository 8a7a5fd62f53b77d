"""What predict and evaluate say of images beside the numbers: passed over, filled up, trained on."""

import json
import shutil
from collections import Counter

import pytest
from PIL import Image
from tests.support.benchmark_copies import listed
from tests.support.pictures import tree

from vitreous.cli.main import main
from vitreous.image_paths import expand_paths

RUN = (
    "--model mu/4 --image 8 8 --duration 1st --batch 4 --micro-batch 0 --workers 0 --schedule.warmup 1st --out run "
    "--decode.truncated fill"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train for a step on 16 images, of which some stand in a benchmark's copy too."""
    root = tmp_path_factory.mktemp("notes")
    tree(root / "data", cat=8, dog=8)
    listed(root / "vtab", "eurosat", 20, 12, 4)
    for number, path in enumerate(sorted(expand_paths([str(root / "vtab")]))[:5]):
        shutil.copy(path, root / "data" / "cat" / f"copy{number}{path.suffix}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["train", "data", *RUN.split()]) == 0
    return root


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def test_predict_names_what_it_passes_over_and_fills(here, capfd):
    folder = here / "new"
    (folder / "cat").mkdir(parents=True)
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(folder / "cat" / "whole.jpg")
    whole = (folder / "cat" / "whole.jpg").read_bytes()
    (folder / "cat" / "cut.jpg").write_bytes(whole[:-60])
    for name in ("a.PSD", "b.PSD", "notes.txt", ".DS_Store"):
        (folder / "cat" / name).write_bytes(b"x")
    assert main(["predict", "run", "new", "--format", "jsonl"]) == 0
    shown = capfd.readouterr()
    assert "ignored: .PSD 2: not read; save as PNG, JPEG or TIFF; .txt 1: not images; 1 hidden" in shown.err
    assert "1 images lack their last bytes, and the missing part is grey; the first: new/cat/cut.jpg" in shown.err
    found = {one["name"]: one.get("filled") for one in map(json.loads, shown.out.splitlines())}
    assert found == {"new/cat/cut.jpg": True, "new/cat/whole.jpg": None}
    assert main(["evaluate", "run", "new", "--no-speed", "--out", "cut"]) == 0
    assert "1 JPEGs of the data lack their last bytes" in capfd.readouterr().out


def test_a_probe_says_how_many_images_were_trained_on(here, capfd):
    words = ["--protocol", "knn", "--k", "1", "--train", "data", "--out", "near", "--json", "near.json"]
    assert main(["evaluate", "run", "data", *words]) == 0
    seen = json.loads((here / "near.json").read_text())["trained_on"]
    assert seen["measured"] == 21
    assert seen["trained"] + seen["held_out"] >= 21
    said = f"{seen['trained']} of these 21 images are among those that the model was trained on"
    assert f"note: {said}" in capfd.readouterr().out
    assert said in (here / "near" / "report.html").read_text()


def test_a_benchmark_says_how_many_images_were_trained_on(here, capfd):
    words = ["--benchmark", "vtab", "--protocol", "knn", "--k", "1", "--out", "bench", "--json", "bench.json"]
    assert main(["evaluate", "run", "vtab", *words, "--no-cache"]) == 0
    seen = json.loads((here / "bench.json").read_text())["trained_on"]
    assert 1 <= seen["trained"] <= 5
    assert f"{seen['trained']} of these {seen['measured']} images" in capfd.readouterr().out


def test_what_is_passed_over_is_counted_by_ending(tmp_path):
    for name in ("a.jpg", "b.HEIC2", "c.txt", ".hidden.jpg", "deep/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    passed: Counter[str] = Counter()
    assert [path.name for path in expand_paths([str(tmp_path)], passed=passed)] == ["a.jpg"]
    assert passed == {".HEIC2": 1, ".txt": 2, "system": 1}
