"""`vitreous evaluate --compare` and `--corruptions`: what is shown, what is written, what is refused."""

import json
import re
import shutil

import pytest
from tests.support.pictures import encoded

from vitreous.data.sources.digits import load_digits


def test_compare_a_run_with_another(vitreous, trained, run, here):
    weights = run / "model"
    shown = vitreous("evaluate", trained, "--compare", weights, "--out", "out", "--json", "m.json").worked(
        "metric",
        "95% interval",
        "Both are right on the same images.",
        "AUROC",
        "images/s forward",
        "report: out/report.html",
    )
    assert "+0.00 to +0.00" in shown
    stored = json.loads((here / "out" / "report.json").read_text())["results"]
    assert stored == json.loads((here / "m.json").read_text())
    assert stored["comparison"]["mcnemar"]["p"] == 1
    assert stored["comparison"]["other"]["top1"] == stored["top1"]
    assert stored["cost"]["batch"] == stored["comparison"]["cost"]["batch"] == 64
    assert "run: " in shown and "copy: " in shown
    page = (here / "out" / "report.html").read_text()
    assert 'id="comparison"' in page and 'id="only-first"' in page
    text = (here / "out" / "report.md").read_text()
    assert "## Compared with copy" in text
    assert "| what | run | copy |" in text


def test_a_model_against_itself_has_two_names(vitreous, trained, here):
    vitreous("evaluate", trained, "--compare", trained, "--no-speed").worked("run (the other)")


def test_other_classes_are_refused_before_anything_is_measured(vitreous, trained, run, here):
    config = run / "model" / "config.json"
    stored = json.loads(config.read_text())
    stored["classes"] = [f"no {name}" for name in stored["classes"]]
    config.write_text(json.dumps(stored))
    vitreous("evaluate", trained, "--compare", run).refused(
        "the same classes", "only run has '0'", "only copy has 'no 0'"
    )
    shutil.rmtree(run)
    vitreous("evaluate", trained, "--compare", run).refused("copy")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("protocol", "asked", "sure"),
    [("few-shot", ("--shots", "1", "3"), False), ("knn", ("--k", "3"), False), ("linear", ("--l2", "0.1"), True)],
)
def test_two_models_by_the_same_probe(vitreous, trained, run, here, protocol, asked, sure):
    """The other may know other classes: its head plays no part."""
    config = run / "model" / "config.json"
    stored = json.loads(config.read_text())
    stored["classes"] = [f"no {name}" for name in stored["classes"]]
    config.write_text(json.dumps(stored))
    how = ("--protocol", protocol, *asked, "--compare", run / "model", "--out", "out", "--no-cache")
    vitreous("evaluate", trained, *how).worked("copy:", "+0.00 to +0.00", "Both are right on the same images.")
    found = json.loads((here / "out" / "report.json").read_text())["results"]
    compared = found.pop("comparison")
    assert compared["other"] == found
    named = [one["metric"] for one in compared["differences"]]
    assert named == ["top1", "balanced", "macro_f1", *(["nll", "ece"] if sure else [])]
    page = (here / "out" / "report.html").read_text()
    assert 'id="other"' in page and 'id="only-second"' in page


def test_a_probe_is_refused_a_layer_that_the_other_lacks(vitreous, trained, run, here):
    vitreous("evaluate", trained, "--protocol", "knn", "--layer", "block.77", "--compare", run).refused("block.77")
    vitreous("evaluate", trained, "--protocol", "knn", "--compare", "nowhere").refused("nowhere")
    vitreous("evaluate", trained, "--protocol", "knn", "--other-as", "mae").refused("--other-as")


def test_corruptions(vitreous, trained, here):
    asked = ("--corruptions", "contrast", "gaussian-noise", "--severities", "1", "5")
    vitreous("evaluate", trained, *asked).refused("unknown corruption 'gaussian-noise'; did you mean 'gaussian_noise'")
    asked = ("--corruptions", "contrast", "gaussian_noise", "--severities", "1", "5", "--no-speed", "--out", "out")
    shown = vitreous("evaluate", trained, *asked).worked("corrupted", "gaussian_noise")
    assert re.search(r"\d% of clean accuracy (lost|gained)$", shown, re.MULTILINE)
    assert "images/s forward" not in shown
    stored = json.loads((here / "out" / "report.json").read_text())["results"]["corruptions"]
    assert [(one["corruption"], one["severity"]) for one in stored["cells"]] == [
        ("gaussian_noise", 1), ("gaussian_noise", 5), ("contrast", 1), ("contrast", 5),
    ]  # fmt: skip
    assert 'id="corrupted"' in (here / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--corruptions", "fgo"), "did you mean 'fog'"),
        (("--corruptions", "all", "--severities", "6"), "severities are 6; they must be 1 to 5"),
        (("--corruptions", "all", "--severities"), "severities are none at all; they must be 1 to 5"),
        (("--severities", "3"), "severities is for corruptions"),
        (("--corruptions",), "name the corruptions, or all: gaussian_noise, shot_noise"),
        (("--compare", "nowhere"), "nowhere"),
    ],
)
def test_what_can_not_be_asked(vitreous, trained, here, asked, words):
    vitreous("evaluate", trained, *asked).refused(words)
    assert list(here.iterdir()) == []


def test_several_labels_an_image(vitreous, trained, here):
    found = load_digits(0.2, 0)[1]
    lines = ["path,labels"]
    for index in range(40):
        (here / f"{index}.png").write_bytes(encoded(found.pixels[index]))
        lines.append(f"{index}.png,{found.labels[index]};{(found.labels[index] + 1) % 9}")
    (here / "sets.csv").write_text("\n".join(lines))
    vitreous("evaluate", trained, "sets.csv", "--out", "out").worked(
        "mean average precision", "micro F1", "images/s forward"
    )
    stored = json.loads((here / "out" / "report.json").read_text())["results"]
    assert (stored["examples"], len(stored["per_label"])) == (40, 10)
    assert sum(one["support"] for one in stored["per_label"]) == pytest.approx(80, abs=8)
    assert "| label | images | precision |" in (here / "out" / "report.md").read_text()
    for more in (("--compare", trained), ("--corruptions", "fog")):
        vitreous("evaluate", trained, "sets.csv", *more).refused("need one label per image")
