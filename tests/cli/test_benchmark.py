"""`vitreous evaluate --benchmark`: the user's copies of ImageNet's other test sets and of VTAB-1k."""

import json
import shutil

import pytest
from tests.support.benchmark_copies import class_tree, corrupted_copy, imagenet_model, listed

from vitreous.weights.model_folder import save_model


@pytest.fixture
def model(tmp_path):
    save_model(tmp_path / "vit", imagenet_model())
    return tmp_path / "vit"


def test_imagenet_a(vitreous, model, tmp_path, here):
    copy = class_tree(tmp_path / "imagenet-a", [6, 11])
    shown = vitreous("evaluate", model, copy, "--benchmark", "imagenet-a", "--json", "a.json")
    shown.worked("ImageNet-A", "Top-1", "Images   4", "all numbers are in a.json", "report: evaluations/")
    results = json.loads((here / "a.json").read_text())
    assert (results["benchmark"], results["images"]) == ("imagenet-a", 4)
    document = json.loads(next((here / "evaluations").glob("*-imagenet-a-accuracy-1/report.json")).read_text())
    assert (document["benchmark"], document["results"]) == ("imagenet-a", results)


def test_imagenet_c(vitreous, model, tmp_path, here):
    copy = corrupted_copy(tmp_path / "c", ["blur/zoom_blur"])
    shown = vitreous("evaluate", model, copy, "--benchmark=imagenet-c", "--out=o")
    shown.worked("zoom_blur", "no mCE: the copy lacks gaussian_noise, ")
    assert "zoom\\_blur" in (here / "o/report.md").read_text()


def test_vtab(vitreous, model, tmp_path, here):
    for task in ("eurosat", "kitti"):
        listed(tmp_path / "vtab", task, 20, 12, 4)
    arguments = ("evaluate", model, tmp_path / "vtab", "--benchmark=vtab", "--no-cache")
    shown = vitreous(*arguments, "--protocol=linear", "--l2=0.1", "--out=o").worked("EuroSAT", "KITTI-Dist", "l2 0.1")
    assert "note: EuroSAT: the test split has 12 images" in shown
    tasks = json.loads((here / "o/report.json").read_text())["results"]["tasks"]
    assert [task["task"] for task in tasks] == ["eurosat", "kitti"]
    shown = vitreous(*arguments, "--protocol=knn", "--k=1", "--tasks", "kitti").worked("k 1")
    assert "EuroSAT " not in shown.splitlines()[1]
    vitreous(*arguments, "--protocol=few-shot", "--tasks", "kitti").worked("l2 1024")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["c", "--benchmark=imagenet-b"], ["unknown benchmark 'imagenet-b'", "imagenet-"]),
        (["--benchmark=imagenet-a"], ["name your copy"]),
        (["c", "--benchmark=vtab"], ["choose the protocol linear"]),
        (["c", "--benchmark=imagenet-a", "--protocol=knn"], ["leave out the protocol"]),
        (["c", "--benchmark=imagenet-a", "--compare=x"], ["--compare"]),
        (["c", "--benchmark=vtab", "--protocol=linear", "--tasks=dts"], ["did you mean 'dtd'"]),
        (["c", "--benchmark=vtab", "--protocol=linear", "--train=x"], ["1,000 images"]),
        (["c", "--benchmark=vtab", "--protocol=few-shot", "--seeds=9"], ["nothing to draw; leave out seeds"]),
        (["c", "--tasks=dtd"], ["tasks is for the benchmark vtab"]),
        (["c", "--steps=9"], ["steps is for the protocol fine-tune"]),
        (["c", "--protocol=fine-tune"], ["--recipe finetune"]),
        (["c", "--benchmark=vtab", "--protocol=linear", "--steps=9"], ["steps is for the protocol fine-tune"]),
        (["nowhere", "--benchmark=vtab", "--protocol=fine-tune"], ["no such folder"]),
        (["nowhere", "--benchmark=imagenet-a"], ["no such folder"]),
        (["nowhere", "--benchmark=vtab", "--protocol=linear"], ["no such folder"]),
        (
            ["c", "--benchmark=vtab", "--protocol=linear", "--layer=blok.0"],
            ["unknown layer 'blok.0'; did you mean 'block"],
        ),
        (["c", "--benchmark=vtab", "--protocol=knn", "--layer=block.0:clas"], ["unknown way to make one vector"]),
        (["c", "--benchmark=vtab", "--protocol=knn", "--k=0"], ["k is 0; each must be at least 1"]),
        (["c", "--benchmark=vtab", "--protocol=linear", "--l2=-1"], ["-1"]),
        (["c", "--benchmark=vtab", "--protocol=few-shot", "--batch=0"], ["batch is 0"]),
        (["c", "--benchmark=vtab", "--protocol=fine-tune", "--steps=0"], ["steps is 0; it must be at least 1"]),
        (["c", "--benchmark=vtab", "--protocol=fine-tune", "--layer=mean"], ["--layer is for --protocol few-shot"]),
        (["c", "--benchmark=imagenet-v2", "--layer=mean"], ["--layer is for --protocol few-shot"]),
        (["c", "--benchmark=imagenet-v2", "--severities=1"], ["--severities doesn't go with --benchmark"]),
        (["c", "--benchmark=imagenet-v2", "--other-as=mae"], ["--other-as doesn't go with --benchmark"]),
        (["c", "--benchmark=imagenet-v2", "--no-speed"], ["--no-speed doesn't go with --benchmark"]),
    ],
)
def test_what_does_not_go_together(vitreous, model, here, arguments, words):
    vitreous("evaluate", model, *arguments).refused(*words)
    assert not (here / "evaluations").exists()


def test_a_head_for_other_classes(vitreous, trained, tmp_path, here):
    copy = class_tree(tmp_path / "imagenet-a", [6])
    vitreous("evaluate", trained, copy, "--benchmark=imagenet-a").refused("10 outputs", "head for ImageNet")


def test_vtab_by_the_papers_protocol(vitreous, model, tmp_path, here):
    """The second call finds the first one's runs finished, and says the same."""
    listed(tmp_path / "vtab", "kitti", 20, 12, 4)
    arguments = ("evaluate", model, tmp_path / "vtab", "--benchmark=vtab", "--protocol=fine-tune", "--steps=4")
    shown = vitreous(*arguments, "--out=first")
    shown.worked("KITTI-Dist", "4 steps", "runs/vtab-vit-4/kitti")
    vitreous(*arguments, "--out=second").worked("KITTI-Dist")
    first, second = (json.loads((here / name / "report.json").read_text()) for name in ("first", "second"))
    assert first["results"] == second["results"]
    config = json.loads((here / "runs/vtab-vit-4/kitti/run/config.json").read_text())["config"]
    assert (config["batch"], config["optimizer"]["lr"], config["optimizer"]["name"]) == (20, 0.01, "sgd")
    assert (config["preprocess"]["resize"], config["augment"]["flip"]) == ("squash", False)
    rows = (here / "runs/vtab-vit-4/kitti/images.csv").read_text().splitlines()
    assert [row.rpartition(",")[2] for row in rows] == ["split"] + ["train"] * 20 + ["val"] * 12
    save_model(tmp_path / "other" / "vit", imagenet_model())
    other = vitreous("evaluate", tmp_path / "other" / "vit", *arguments[2:])
    assert other.code == 2
    assert "began with" in other.err


def test_fine_tuning_goes_on_only_from_the_same_weights_and_images(vitreous, model, tmp_path, here):
    """Other weights at the same path, and other images, are refused; the finished run stays as it is."""
    listed(tmp_path / "vtab", "kitti", 20, 12, 4)
    listed(tmp_path / "other", "kitti", 20, 16, 4)
    arguments = ("--benchmark=vtab", "--protocol=fine-tune", "--steps=1")
    vitreous("evaluate", model, tmp_path / "vtab", *arguments).worked("KITTI-Dist")
    task = here / "runs/vtab-vit-1/kitti"
    before = (task / "images.csv").read_bytes()
    vitreous("evaluate", model, tmp_path / "other", *arguments).refused("other images", "move runs/vtab-vit-1 away")
    assert (task / "images.csv").read_bytes() == before
    changed = imagenet_model()
    changed.model.head.weight.data += 1
    save_model(tmp_path / "changed", changed)
    shutil.rmtree(model)
    (tmp_path / "changed").rename(model)
    vitreous("evaluate", model, tmp_path / "vtab", *arguments).refused("other weights", "move runs/vtab-vit-1 away")
    (task / "weights.sha256").unlink()  # as earlier versions wrote it
    vitreous("evaluate", model, tmp_path / "vtab", *arguments).worked("KITTI-Dist", "comes from an earlier version")


def test_fine_tuning_from_named_weights_goes_on(vitreous, tmp_path, here):
    """The run notes the weights pinned, by their contents; the folder has the name that was given."""
    listed(tmp_path / "vtab", "kitti", 20, 12, 4)
    arguments = ("evaluate", "starter", tmp_path / "vtab", "--benchmark=vtab", "--protocol=fine-tune", "--steps=1")
    vitreous(*arguments, "--out=first").worked("runs/vtab-starter-1/kitti")
    vitreous(*arguments, "--out=second").worked("KITTI-Dist")
    first, second = (json.loads((here / name / "report.json").read_text()) for name in ("first", "second"))
    assert first["results"] == second["results"]
