"""VTAB-1k: the tasks' facts, copies of both layouts, averages, what goes wrong."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.benchmark_copies import imagenet_model, listed
from tests.support.pictures import tree, write

from vitreous.errors import ConfigError, DataError, UnknownName, UserError
from vitreous.evaluation.benchmarks import vtab_tasks
from vitreous.evaluation.benchmarks.vtab import VTAB, TaskOptions, TaskScore, run_vtab
from vitreous.evaluation.benchmarks.vtab_files import list_tasks, open_task
from vitreous.evaluation.benchmarks.vtab_probes import check_images, vtab_probe
from vitreous.evaluation.benchmarks.vtab_tasks import GROUPS, TASKS, find_task
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.evaluation.probes.linear import linear_probe
from vitreous.evaluation.probes.options import ProbeOptions
from vitreous.reports.evaluation.vtab import build_sections, format_lines, list_figures

UNCACHED = FeatureOptions(cache=False)


def linear(train, test, held) -> tuple[float, str]:
    found = linear_probe(train, test, held=held)
    return found.accuracy, f"l2 {found.chosen:g}"


def test_nineteen_tasks_in_three_groups() -> None:
    """1910.04867, section 2 and table 5."""
    assert [sum(task.group == group for task in TASKS.values()) for group in GROUPS] == [7, 4, 8]
    assert set(vtab_tasks.OTHER_NAMES.values()) <= set(TASKS)
    assert set(vtab_tasks.DERIVED) <= set(TASKS)


@given(st.floats(0.1, 99), st.floats(0.1, 200))
def test_distances_fall_between_the_authors_thresholds(near: float, vehicle: float) -> None:
    """The last threshold that lies below the distance is the class, as their definition has it."""
    last = lambda bounds, value: int(np.flatnonzero(np.array(bounds) - value < 0).max())  # noqa: E731
    depths = [near, near + 1]
    assert vtab_tasks.clevr_distance(depths) == last([0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0], near)
    assert vtab_tasks.kitti_distance([vehicle, 300.0]) == last([-100.0, 8.0, 20.0, 999.0], vehicle)


def test_labels_from_annotations_use_every_class() -> None:
    assert [vtab_tasks.clevr_count(count) for count in range(3, 11)] == list(range(8))
    assert [vtab_tasks.dsprites_location(place) for place in range(32)] == [place // 2 for place in range(32)]
    assert [vtab_tasks.dsprites_orientation(place) for place in range(40)] == [int(place // 2.5) for place in range(40)]
    assert [vtab_tasks.smallnorb_azimuth(place) for place in range(0, 36, 2)] == list(range(18))
    assert [vtab_tasks.smallnorb_elevation(place) for place in range(9)] == list(range(9))
    for derive, wrong in (
        (vtab_tasks.clevr_count, 2),
        (vtab_tasks.clevr_distance, []),
        (vtab_tasks.dsprites_location, 32),
        (vtab_tasks.smallnorb_azimuth, 3),
    ):
        with pytest.raises(ConfigError):
            derive(wrong)


def test_lists_are_read_as_they_are(tmp_path: Path) -> None:
    folder = listed(tmp_path, "eurosat", 20, 12, 10)
    found = open_task(tmp_path, "eurosat")
    assert [len(part) for part in (found.train, found.validation, found.both, found.test)] == [16, 4, 20, 12]
    assert found.both.names == found.train.names + found.validation.names
    lines_of = (folder / "test.txt").read_text().splitlines()
    assert [f"{name} {label}" for name, label in zip(found.test.names, found.test.labels, strict=True)] == lines_of
    assert found.test.classes == tuple(map(str, range(10)))
    assert found.notes == ("the test split has 12 images; the benchmark's has 5,400",)


def test_images_that_come_twice_are_counted(tmp_path: Path) -> None:
    """Under other labels too, or as another file of the same bytes."""
    folder = listed(tmp_path, "eurosat", 10, 6, 4)
    assert not any("images" in note and "test split" not in note for note in open_task(tmp_path, "eurosat").notes)
    (folder / "twin.png").write_bytes((folder / "images/train 0000.png").read_bytes())
    with (folder / "test.txt").open("a") as file:
        file.write("./images/train 0003.png 1\ntwin.png 0\ntwin.png 0\n")
    assert open_task(tmp_path, "eurosat").notes[-2:] == (
        "3 test images are also among the training images; the accuracy flatters the model",
        "1 images come again within the training or the test images",
    )


def test_one_list_of_a_thousand_is_divided_by_the_seed(tmp_path: Path) -> None:
    folder = listed(tmp_path, "dtd", 20, 12, 10)
    (folder / "train800.txt").unlink()
    first, again, other = (open_task(tmp_path, "dtd", seed=seed) for seed in (0, 0, 1))
    assert first.train.names == again.train.names != other.train.names
    assert (len(first.train), len(first.validation)) == (16, 4)
    assert sorted(first.both.names) == sorted(other.both.names)
    assert "divided by seed 0" in first.notes[0]


def test_a_thousand_are_drawn_from_class_folders(tmp_path: Path) -> None:
    """Which ones depends on the seed and the names alone, not on what else is there."""
    from vitreous.evaluation.benchmarks import vtab_files

    tree(tmp_path / "patch_camelyon", train__a=9, train__b=9, val__a=3, test__a=3, test__b=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vtab_files, "MORE", 10)
        patch.setattr(vtab_files, "FEW", 8)
        found = open_task(tmp_path, "camelyon")
        assert (len(found.train), len(found.validation), len(found.test)) == (8, 2, 6)
        assert "10 of 21 training images were drawn by seed 0" in found.notes
        write(tmp_path / "patch_camelyon/train/a/new.png", seed=99)
        more = set(open_task(tmp_path, "camelyon").both.names)
        assert len(set(found.both.names) - more) <= 1
    assert found.test.classes == ("a", "b")


def test_each_task_is_measured_by_its_probe(tmp_path: Path) -> None:
    listed(tmp_path, "eurosat", 40, 20, 4)
    listed(tmp_path, "KITTI_distance", 24, 12, 3)
    folder, told = imagenet_model(), []
    found = run_vtab(folder, tmp_path, linear, UNCACHED, progress=lambda *said: told.append(said))
    assert [score.task for score in found.scores] == ["eurosat", "kitti"]
    for score in found.scores:
        task = open_task(tmp_path, score.task)
        squeezed = replace(folder, preprocess=replace(folder.preprocess, resize="squash", crop=1.0))
        both, test = (features(squeezed, part, UNCACHED) for part in (task.both, task.test))
        held = np.isin(both.names, task.validation.names)
        assert 0 < held.sum() == len(task.validation)
        expected = linear_probe(both, test, held=held)
        assert score.accuracy == expected.accuracy
        assert score.interval == pytest.approx(expected.interval)
    assert found.scores[0].accuracy > 0.25
    assert told[-1][1:] == (12, 12)
    assert found.mean is None
    assert len(found.missing) == 17
    assert run_vtab(folder, tmp_path, linear, UNCACHED, TaskOptions(["kitti"])).scores == found.scores[1:]


def test_images_are_squeezed_and_not_cropped(tmp_path: Path) -> None:
    """Whatever the model's own preprocessing: a task may ask for what lies at the border."""
    listed(tmp_path, "kitti", 20, 12, 4)
    folder, seen = imagenet_model(), []
    assert (folder.preprocess.resize, folder.preprocess.crop) == ("short", 0.875)
    run_vtab(folder, tmp_path, lambda train, test, held: (float(seen.append(test) or 1), ""), UNCACHED)
    squeezed = replace(folder, preprocess=replace(folder.preprocess, resize="squash", crop=1.0))
    expected = features(squeezed, open_task(tmp_path, "kitti").test, UNCACHED).vectors
    np.testing.assert_array_equal(seen[0].vectors, expected)
    assert np.abs(expected - features(folder, open_task(tmp_path, "kitti").test, UNCACHED).vectors).max() > 0


@pytest.mark.parametrize(
    ("ks", "spoil", "complaint"),
    [
        ((1,), lambda folder: (folder / "test.txt").unlink(), "has train800val200.txt but no test.txt"),
        ((9,), lambda folder: None, "k is 9; each must be at least 1 and at most the 8 training images"),
        (
            (1,),
            lambda folder: (folder / "train800val200.txt").write_text(
                "images/train 0000.png 1\nimages/train 0001.png 1\n"
            ),
            "single class",
        ),
    ],
)
def test_nothing_is_computed_before_all_tasks_are_open(tmp_path: Path, ks, spoil, complaint: str) -> None:
    listed(tmp_path, "dtd", 20, 8, 4)
    folder = listed(tmp_path, "kitti", 8, 8, 4)
    for name in ("train800.txt", "val200.txt"):
        (folder / name).unlink()
    spoil(folder)
    how, told = ProbeOptions(k=ks), []
    options = TaskOptions(check=partial(check_images, "knn", how))
    with pytest.raises(UserError, match=complaint):
        run_vtab(imagenet_model(), tmp_path, vtab_probe("knn", how), UNCACHED, options, lambda *said: told.append(said))
    assert not told


def test_classes_without_training_images_count_as_wrong(tmp_path: Path) -> None:
    folder = listed(tmp_path, "eurosat", 20, 12, 4)
    test = (folder / "test.txt").read_text().splitlines()
    (folder / "test.txt").write_text("\n".join([*test[:-3], *(line.rpartition(" ")[0] + " 9" for line in test[-3:])]))
    score = run_vtab(imagenet_model(), tmp_path, lambda train, test, held: (1.0, ""), UNCACHED).scores[0]
    assert (score.unseen, score.accuracy) == (3, 9 / 12)


def scores(**accuracies: float) -> VTAB:
    made = [
        TaskScore(name, TASKS[name].group, accuracy, (0.0, 1.0), 1000, TASKS[name].test, "", 0, ())
        for name, accuracy in accuracies.items()
    ]
    return VTAB(tuple(made), tuple(name for name in TASKS if name not in accuracies))


def test_averages() -> None:
    """The mean of the 19, and the mean of the groups' means, are two numbers."""
    accuracy = {"Natural": 0.9, "Specialized": 0.6, "Structured": 0.3}
    found = scores(**{name: accuracy[task.group] for name, task in TASKS.items()})
    assert [found.average_group(group) for group in GROUPS] == pytest.approx([0.9, 0.6, 0.3])
    assert found.mean == pytest.approx((7 * 0.9 + 4 * 0.6 + 8 * 0.3) / 19)
    assert found.mean_of_groups == pytest.approx(0.6)
    shown = {name: value for name, value, _ in list_figures(found)}
    assert (shown["Mean of 19"], shown["Mean of groups"]) == ("58.4%", "60.0%")
    some = scores(**{name: 0.5 for name, task in TASKS.items() if task.group == "Specialized"})
    assert (some.mean, some.average_group("Specialized"), some.average_group("Natural")) == (None, 0.5, None)
    assert [name for name, *_ in list_figures(some)] == ["Specialized"]
    assert "without Caltech101" in "\n".join(format_lines(some))
    assert "Not all tasks" in "\n".join(block.markdown() for part in build_sections(some) for block in part.blocks)


def test_tasks_are_found_under_any_of_their_names(tmp_path: Path) -> None:
    for name in ("Pets", "cifar100", "dtd", "something"):
        (tmp_path / name).mkdir()
    assert list_tasks(tmp_path) == ["cifar", "dtd", "oxford_iiit_pet"]
    assert find_task("DSprites_Location") == "dsprites_loc"
    with pytest.raises(UnknownName, match="did you mean 'eurosat'"):
        find_task("eurosad")


def without(name: str):
    return lambda folder: (folder / name).unlink()


def written(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (without("test.txt"), r"no test\.txt"),
        (without("train800val200.txt"), r"neither train800val200\.txt.*images/"),
        (written("test.txt", "\n"), "lists no images"),
        (written("test.txt", "images/a.png ten\n"), r"test\.txt, line 1: .*a label from 0 to 9"),
        (written("test.txt", "images/a.png 10\n"), "from 0 to 9, the classes of EuroSAT"),
        (written("test.txt", "3\n"), "not a path and a label"),
        (written("test.txt", "images/none.png 3\n"), r"test\.txt, line 1: .*none\.png"),
        (written("val200.txt", "images/a.png 3\n"), "together don't list"),
    ],
)
def test_lists_that_are_wrong_are_told_by_their_line(tmp_path: Path, spoil, complaint: str) -> None:
    spoil(listed(tmp_path, "eurosat", 10, 4, 4))
    with pytest.raises(DataError, match=complaint):
        open_task(tmp_path, "eurosat")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list_tasks(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no folder named after a task"):
        list_tasks(tmp_path)
    with pytest.raises(DataError, match="no folder dtd/ for DTD"):
        open_task(tmp_path, "dtd")
    tree(tmp_path / "patch_camelyon", train__a=1, train__b=1, train__c=1, test__a=1)
    with pytest.raises(DataError, match="has 3 classes, but the benchmark has 2"):
        open_task(tmp_path, "patch_camelyon")
    listed(tmp_path, "svhn", 5, 3, 1)
    with pytest.raises(DataError, match="a single class"):
        run_vtab(imagenet_model(), tmp_path, linear, UNCACHED, TaskOptions(["svhn"]))


def test_files_that_cannot_be_read_are_named_or_counted(tmp_path: Path) -> None:
    folder = listed(tmp_path, "eurosat", 10, 4, 4)
    write(folder / "images/test 0011.png", b"no image")
    with pytest.raises(DataError, match=r"test\.txt, line 2"):
        open_task(tmp_path, "eurosat")
    found = open_task(tmp_path, "eurosat", broken="skip")
    assert len(found.test) == 3
    assert "1 images that can't be read were left out" in found.notes
