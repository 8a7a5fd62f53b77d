"""ImageNet's other test sets: class maps, scores by brute force, copies that aren't as they should be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.benchmark_copies import class_tree, corrupted_copy, imagenet_model, real_copy
from tests.support.pictures import write

from vitreous.errors import ConfigError, DataError, UnknownName
from vitreous.evaluation.benchmarks.imagenet import BatchOptions, Score, score
from vitreous.evaluation.benchmarks.imagenet_c import ALEXNET, corruption_errors
from vitreous.evaluation.benchmarks.imagenet_classes import find_class, find_outputs, is_assumed, subset, wnids
from vitreous.images.preprocess import preprocess_image
from vitreous.images.tensors import normalize
from vitreous.metrics.classification import wilson_interval
from vitreous.predictor import Predictor
from vitreous.reports.evaluation.imagenet import build_sections, describe_count, format_lines


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(imagenet_model())


def logits(predictor: Predictor, path: Path, crop: float | None = None) -> torch.Tensor:
    """One image by itself, past all of the evaluation."""
    from dataclasses import replace

    folder = predictor.folder
    preprocess = folder.preprocess if crop is None else replace(folder.preprocess, crop=crop)
    pixels = torch.from_numpy(preprocess_image(path.read_bytes(), folder.decode, preprocess, str(path))).permute(
        2, 0, 1
    )[None]
    with torch.no_grad():
        return folder.model(normalize(pixels, preprocess))[0]


def test_the_class_lists_are_timms() -> None:
    from timm.data import ImageNetInfo
    from timm.data import imagenet_info as place

    info = Path(place.__file__).parent / "_info"
    read = lambda name: (info / name).read_text().split()  # noqa: E731
    assert list(wnids()) == read("imagenet_synsets.txt") == ImageNetInfo().label_names()
    for mark in "AR":
        assert subset(mark).tolist() == [int(index) for index in read(f"imagenet_{mark.lower()}_indices.txt")]
        assert [wnids()[index] for index in subset(mark)] == read(f"imagenet_{mark.lower()}_synsets.txt")


def test_folders_stand_for_classes() -> None:
    assert [find_class(name) for name in ("n01440764", "n15075141", "0", "999", "1000", "tench", "-1", "²")] == [
        0, 999, 0, 999, -1, -1, -1, -1,
    ]  # fmt: skip


def test_outputs_are_matched_by_id_or_taken_in_order() -> None:
    assert find_outputs([str(number) for number in range(1000)]).tolist() == list(range(1000))
    assert find_outputs(["background", *map(str, range(1000))]).tolist() == list(range(1, 1001))
    assert find_outputs([*wnids()[::-1], "n99999999"]).tolist() == list(range(999, -1, -1))
    by_name = sorted(str(number) for number in range(1000))  # as class folders are
    assert find_outputs(by_name).tolist() == [by_name.index(str(number)) for number in range(1000)]
    some = ["cock", *wnids()[:7], *wnids()[8:]]
    with pytest.raises(
        ConfigError, match=r"^999 of the model's outputs are named by WordNet ids .* their order is unknown"
    ):
        find_outputs(some)
    assert [is_assumed(names) for names in (wnids(), by_name, some)] == [False, False, True]
    with pytest.raises(ConfigError, match=r"has 10 outputs.*head for ImageNet"):
        find_outputs([str(number) for number in range(10)])


@pytest.mark.parametrize(
    ("name", "mark", "chosen"),
    [("imagenet-a", "A", [6, 11, 13]), ("imagenet-r", "R", [1, 2, 4]), ("imagenet-sketch", "", [0, 5, 999])],
)
def test_scores_are_those_of_each_image_by_itself(
    predictor: Predictor, tmp_path: Path, name: str, mark: str, chosen: list[int]
) -> None:
    """-A and -R choose among their 200 classes."""
    root = class_tree(tmp_path / "copy" / name, chosen, 4)
    (tmp_path / "copy" / "README.txt").write_text("as it comes")
    found = score(predictor, name, tmp_path / "copy")
    right, among = {1: 0, 5: 0}, set(subset(mark).tolist())
    for index in chosen:
        for path in sorted((root / wnids()[index]).iterdir()):
            ranked = [place for place in logits(predictor, path).argsort(descending=True).tolist() if place in among]
            right[1] += index in ranked[:1]
            right[5] += index in ranked[:5]
    assert (found.images, found.top1, found.top5) == (12, right[1] / 12, right[5] / 12)
    assert found.interval == wilson_interval(right[1], 12)


def test_v2s_folders_are_numbers(predictor: Predictor, tmp_path: Path) -> None:
    by_number = class_tree(tmp_path / "imagenetv2-matched-frequency-format-val", [0, 10, 999], name=str)
    by_name = class_tree(tmp_path / "other", [0, 10, 999])
    first, second = (score(predictor, "imagenet-v2", root) for root in (by_number, by_name))
    assert first == second


def test_real_takes_any_of_the_labels_and_leaves_out_images_without(predictor: Predictor, tmp_path: Path) -> None:
    labels = {3: [], 4: [], 10: [], 11: [], 2000: [], 49_999: []}
    root = real_copy(tmp_path, labels)
    paths = {int(path.stem[-8:]) - 1: path for path in root.rglob("*.JPEG")}
    best = {number: int(logits(predictor, path).argmax()) for number, path in paths.items()}
    labels |= {3: [best[3]], 4: [7, best[4]], 10: [(best[10] + 1) % 1000], 2000: [best[2000]]}
    real_copy(tmp_path, labels)
    found = score(predictor, "imagenet-real", root)
    assert (found.images, found.left_out, found.top1) == (4, 2, 3 / 4)
    assert "2 without a label left out" in "\n".join(format_lines(found))


def test_c_is_relative_to_alexnet(predictor: Predictor, tmp_path: Path) -> None:
    groups = ["noise/gaussian_noise", "blur/glass_blur", "snow"]
    root = corrupted_copy(tmp_path, groups)
    found = score(predictor, "imagenet-c", root)
    assert found.images == 3 * 2
    assert found.top1 == pytest.approx(1 - np.mean([one.errors for one in found.corrupted.corruptions]))
    assert found.interval == wilson_interval(6 * found.top1, 6)
    for one in found.corrupted.corruptions:
        for level, error in enumerate(one.errors, start=1):
            files = [path for path in root.rglob("*.png") if {one.corruption, str(level)} <= set(path.parts)]
            wrong = [wnids()[int(logits(predictor, path, 1.0).argmax())] != path.parent.name for path in files]
            assert error == pytest.approx(np.mean(wrong))
        assert one.relative == pytest.approx(np.mean(one.errors) / ALEXNET[one.corruption])
    assert found.corrupted.mce is None
    assert len(found.corrupted.missing) == 12
    assert "no mCE: the copy lacks shot_noise, impulse_noise" in format_lines(found)[-2]


def test_alexnets_own_errors_give_a_hundred_per_cent() -> None:
    every = {(name, level): error for name, error in ALEXNET.items() for level in (1, 2, 3, 4, 5)}
    assert corruption_errors(every).mce == pytest.approx(1.0)
    del every["fog", 3]
    found = corruption_errors(every)
    assert (found.mce, found.missing) == (None, ("fog/3",))
    assert len(found.corruptions) == 15


def test_files_that_cannot_be_read(predictor: Predictor, tmp_path: Path) -> None:
    root = class_tree(tmp_path, [6])
    write(root / wnids()[6] / "broken.png", b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        score(predictor, "imagenet-a", root)
    found = score(predictor, "imagenet-a", root, BatchOptions(broken="skip"))
    assert found.images == 2
    assert [name for name, _ in found.skipped] == [f"{wnids()[6]}/broken.png"]


def test_links_among_the_validation_images(predictor: Predictor, tmp_path: Path) -> None:
    """Those to class folders are followed, and one that leads nowhere is a file that can't be read."""
    labels = {1: [1], 2: [2], 49_999: [3]}
    root, linked = real_copy(tmp_path / "copy", labels), tmp_path / "linked" / "val"
    linked.mkdir(parents=True)
    (linked.parent / "real.json").symlink_to(root.parent / "real.json")
    for place in root.iterdir():
        (linked / place.name).symlink_to(place)
    whole = score(predictor, "imagenet-real", linked)
    assert (whole.images, whole.top1) == (3, score(predictor, "imagenet-real", root).top1)
    (linked / "ILSVRC2012_val_00000009.JPEG").symlink_to("nowhere")
    with pytest.raises(DataError, match="ILSVRC2012_val_00000009"):
        score(predictor, "imagenet-real", linked)
    found = score(predictor, "imagenet-real", linked, BatchOptions(broken="skip"))
    assert (found.images, [name for name, _ in found.skipped]) == (3, ["ILSVRC2012_val_00000009.JPEG"])


def bad_real(root: Path, content: str) -> Path:
    folder = real_copy(root, {1: [1]})
    (root / "real.json").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("name", "make", "complaint"),
    [
        ("imagenet-a", lambda root: root / "nowhere", "no such folder"),
        ("imagenet-a", lambda root: class_tree(root, [0], name=lambda _: "tench"), "no folders that are named after"),
        ("imagenet-a", lambda root: class_tree(root, [6, 0]), "no images of: n01440764"),
        (
            "imagenet-a",
            lambda root: class_tree(class_tree(root, [6]), [0], name=lambda _: "cat"),
            "that are not classes of ImageNet: 'cat'",
        ),
        ("imagenet-real", lambda root: class_tree(real_copy(root, {}).parent, [6]), "no images named like"),
        ("imagenet-real", lambda root: root / "nowhere", "no such folder"),
        (
            "imagenet-real",
            lambda root: (bad_real(root, "[]"), (root / "real.json").unlink(), root / "val")[2],
            "has real.json; put the file",
        ),
        ("imagenet-real", lambda root: bad_real(root, "[1, 2]"), "list of 50,000 lists"),
        ("imagenet-real", lambda root: bad_real(root, "{"), "can't be read as JSON"),
        ("imagenet-real", lambda root: bad_real(root, json.dumps([[1000]] * 50_000)), "classes, 0 to 999"),
        ("imagenet-real", lambda root: bad_real(root, json.dumps([[]] * 50_000)), "none of the 1 images"),
        ("imagenet-c", lambda root: class_tree(root, [0]), "no corruptions"),
        ("imagenet-c", lambda root: root / "nowhere", "no such folder"),
    ],
)
def test_copies_that_are_not_as_they_should_be(
    predictor: Predictor, tmp_path: Path, name: str, make, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        score(predictor, name, make(tmp_path))


def test_an_unknown_benchmark_suggests_the_nearest(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="imagenet-v2"):
        score(predictor, "imagenet-v3", tmp_path)


def test_the_report_says_the_same(predictor: Predictor, tmp_path: Path) -> None:
    found = score(predictor, "imagenet-a", class_tree(tmp_path, [6]))
    shown = "\n".join(block.markdown() for part in build_sections(found) for block in part.blocks)
    assert f"Top-1: **{found.top1:.2%}**" in shown
    assert "1907.07174" in shown


def test_a_copy_with_another_number_of_images_is_told() -> None:
    whole = Score("imagenet-a", 7_499, 0.5, (0.4, 0.6), 0.8, skipped=(("x.jpg", "damaged"),))
    assert describe_count(whole) == ""
    assert (
        format_lines(Score("imagenet-v2", 40, 0.5, (0.4, 0.6), 0.8))[-1]
        == "note: the copy has 40; the benchmark has 10,000."
    )
    assert describe_count(Score("imagenet-c", 40, 0.5, (0.4, 0.6), None)) == ""


def test_names_that_say_nothing_of_the_order_are_told(predictor: Predictor, tmp_path: Path) -> None:
    found = score(predictor, "imagenet-a", class_tree(tmp_path, [6]))
    assert found.assumed and "taken to be in ImageNet's order" in format_lines(found)[-1]
    named = Predictor(imagenet_model(tuple(wnids())), device="cpu")
    assert not score(named, "imagenet-a", tmp_path).assumed


def test_one_image_twice_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    root = real_copy(tmp_path, {3: [1], 4: [2]})
    shutil.copy(root / "ILSVRC2012_val_00000004.JPEG", root / "n01440764")
    with pytest.raises(
        DataError, match=r"one of ImageNet's validation images twice: ILSVRC2012_val_00000004\.JPEG and n01440764/"
    ):
        score(predictor, "imagenet-real", root)


def test_the_labels_are_looked_for_before_images_are_decoded(predictor: Predictor, tmp_path: Path, monkeypatch) -> None:
    root = real_copy(tmp_path, {3: [1]})
    (tmp_path / "real.json").unlink()
    monkeypatch.setattr("vitreous.evaluation.benchmarks.imagenet_sets.scan", lambda *given: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"real\.json"):
        score(predictor, "imagenet-real", root)


def test_severities_are_no_classes(predictor: Predictor, tmp_path: Path) -> None:
    """ImageNet-C's folders 1 to 5 had been measured as the classes of these numbers."""
    root = corrupted_copy(tmp_path, ["gaussian_noise"])
    with pytest.raises(DataError, match="no folders that are named after ImageNet's classes"):
        score(predictor, "imagenet-sketch", root / "gaussian_noise")
