"""Runs that learn from a teacher: what it sees, whom it may be, and the same bits on resume."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.training import TINY, Listener, digest

import vitreous
from vitreous.data.dataset import open_dataset
from vitreous.errors import CheckpointError, ConfigError, RunError
from vitreous.images.config import IMAGENET_MEAN, IMAGENET_STD, AugmentConfig, PreprocessConfig
from vitreous.images.preprocess import convert_mode, convert_to_pixels, normalize_array
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.resnet_config import ResNetConfig
from vitreous.objectives.config import ClassifyConfig, MaskedAutoencoderConfig
from vitreous.run_folder import read_run
from vitreous.training.assembly import build_job
from vitreous.training.changes import Changes
from vitreous.training.loop import load_batches, train_step
from vitreous.training.reporter import Silent
from vitreous.training.run import resume, train
from vitreous.training.teacher import convert_channels, open_teacher, resize_view
from vitreous.training.trial_run import dry_run
from vitreous.weights.model_folder import ModelFolder, load_model, save_model

DIGITS = tuple("0123456789")
STUDENT = replace(
    TINY, model=build_vit_config("mu/4", image=(8, 8), channels=1, classes=10, depth=2, distillation_token=True)
)
FIXED = AugmentConfig(crop="eval", flip=False)
RESNET = ResNetConfig(
    image=(12, 20), channels=3, units=(1,), classes=11, root="3x3", root_channels=8, groups=4, unit="pooled", activation="gelu"
)  # fmt: skip
"""A teacher of another family, for other sizes, in colours, that knows one class more, in another order."""


def write(path: Path, model, classes, seed: int = 0, temperature: float = 1.0, **preprocess) -> str:
    """Write a model of random weights, also in its head; return its path."""
    made = create(model, seed)
    with torch.no_grad():
        for head in made.heads.values():
            head.weight.normal_(generator=torch.Generator().manual_seed(seed))
    how = PreprocessConfig(size=model.image, mode="RGB" if model.channels == 3 else "L", crop=1.0, **preprocess)
    save_model(path, ModelFolder(made, how, TINY.decode, classes, temperature=temperature))
    return str(path)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> str:
    """A ResNet in colours, of another size and other constants."""
    how = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "interpolation": "bicubic"}
    return write(tmp_path_factory.mktemp("teacher") / "resnet", RESNET, ("none", *DIGITS[::-1]), temperature=2.0, **how)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("teacher") / "vit", TINY.model, DIGITS)


def test_a_teacher_sees_the_students_views_as_it_was_trained_to_see_images(stranger: str) -> None:
    """Each view for itself, by the evaluation transform of arrays and in the teacher's own order of classes."""
    config = replace(STUDENT, teacher=stranger)
    dataset = open_dataset(config.data)
    job = build_job(config, dataset, Silent())
    batch = next(load_batches(job, 1))
    found = job.objective.inputs(batch, torch.empty(0))[-1]
    folder = load_model(Path(stranger))
    views = []
    for pixels in batch.pixels.permute(0, 2, 3, 1).numpy():
        coloured = convert_mode(pixels, folder.preprocess)
        squashed = replace(folder.preprocess, resize="squash", rounding="timm")
        views.append(convert_to_pixels(coloured, squashed))
    images = normalize_array(np.stack(views), folder.preprocess)
    with torch.no_grad():
        logits = folder.model.eval()(torch.from_numpy(images)) / 2.0
    torch.testing.assert_close(found, logits[:, [list(folder.classes).index(name) for name in DIGITS]])
    assert not found.requires_grad and not any(one.requires_grad for one in job.teacher.model.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_device_s_views_are_seen_as_the_cpu_s(channels: int) -> None:
    """Whole levels in float32, which kernels overshoot at edges, and colours to be weighed into grey."""
    edge = torch.randint(0, 2, (2, 3, 8, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8) * 255
    preprocess = PreprocessConfig(size=(20, 18), mode="RGB" if channels == 3 else "L", interpolation="bicubic")
    seen = [resize_view(convert_channels(views, channels), preprocess) for views in (edge, edge.float())]
    assert torch.equal(*seen) and seen[0].shape == (2, channels, 20, 18)
    assert float(seen[0].min()) >= 0 and float(seen[0].max()) <= 255


def test_the_teacher_is_no_part_of_what_is_saved(teacher: str, tmp_path: Path) -> None:
    job = build_job(replace(STUDENT, teacher=teacher), open_dataset(TINY.data), Silent())
    alone = build_job(STUDENT, open_dataset(TINY.data), Silent())
    assert job.tensors().keys() == alone.tensors().keys()
    run = train(replace(STUDENT, teacher=teacher, duration="2st"), tmp_path / "run").run
    assert load_model(run).origin["teacher"] == teacher
    shutil.copytree(run / "model", tmp_path / "alone")
    assert vitreous.load(tmp_path / "alone").model.distillation_head is not None


@pytest.mark.parametrize("fixed", [False, True])
def test_a_resumed_run_has_the_same_bits(teacher: str, tmp_path: Path, fixed: bool) -> None:
    settings = {"checkpoint_every": "100%", "objective": ClassifyConfig(distillation="soft", distillation_weight=0.7)}
    config = replace(STUDENT, teacher=teacher, augment=FIXED if fixed else TINY.augment, **settings)
    whole = train(config, tmp_path / "whole").run
    shutil.rmtree(whole / "checkpoints" / "step-12")
    before = digest(whole)
    resume(whole)
    assert digest(whole) == before
    without = train(replace(config, teacher=None, objective=ClassifyConfig()), tmp_path / "without").run
    assert digest(without) != before


def test_logits_of_fixed_views_are_computed_once_and_are_those_of_the_views(stranger: str) -> None:
    config, dataset = replace(STUDENT, teacher=stranger, augment=FIXED), open_dataset(TINY.data)
    job = build_job(config, dataset, Silent())
    batch = next(load_batches(job, 1))
    assert job.teacher.fixed.shape == (len(dataset.train), 10)
    torch.testing.assert_close(job.teacher(batch.pixels, batch.indices), job.teacher.answer(batch.pixels))
    assert open_teacher(replace(config, augment=TINY.augment), dataset, Silent()).fixed is None


def test_accumulated_gradients_are_those_of_the_whole_batch(teacher: str) -> None:
    found = []
    for micro in (0, 10):
        job = build_job(replace(STUDENT, teacher=teacher, micro_batch=micro), open_dataset(TINY.data), Silent())
        found.append(float(train_step(job, next(load_batches(job, 1)))[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_another_teacher_is_noticed_and_a_moved_one_found(tmp_path: Path) -> None:
    first = write(tmp_path / "first", TINY.model, DIGITS)
    other = write(tmp_path / "other", TINY.model, DIGITS, seed=1)
    run = train(replace(STUDENT, teacher=first, checkpoint_every="5st"), tmp_path / "run").run
    shutil.rmtree(run / "checkpoints" / "step-12")
    before = digest(run)
    (tmp_path / "first").rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=r"say where it is: vitreous resume .* --teacher PATH"):
        resume(run)
    with pytest.raises(RunError, match="is not the teacher that this run began with"):
        resume(run, None, Changes(teacher=other))
    resume(run, None, Changes(teacher=str(tmp_path / "moved")))
    assert digest(run) == before
    assert resume(run).stopped == "finished"
    record = read_run(run).config
    assert record["config"]["teacher"] == first and len(record["teacher"]["sha256"]) == 64
    shutil.rmtree(tmp_path / "moved")
    assert resume(run).stopped == "finished"  # and a finished run needs none


def test_weight_one_does_without_labels(teacher: str) -> None:
    """Function matching (2106.05237): the same step whatever the labels are."""
    config = replace(STUDENT, teacher=teacher, objective=ClassifyConfig(distillation="soft", distillation_weight=1.0))
    found = []
    for shift in (0, 1):
        job = build_job(config, open_dataset(TINY.data), Silent())
        batch = next(load_batches(job, 1))
        labels = (batch.labels + shift) % 10
        train_step(job, replace(batch, labels=labels))
        found.append(torch.cat([one.flatten() for one in job.model.state_dict().values()]))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_plan_names_the_teacher(teacher: str) -> None:
    listener = Listener()
    assert f"teacher      {teacher}" in str(dry_run(replace(STUDENT, teacher=teacher), listener))
    assert any(text.endswith("which sees 8x8") for text in listener.messages)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"teacher": "missing"}, "no such model folder"),
        ({"teacher": "headless"}, "has no head, so it knows no classes"),
        ({"teacher": "letters"}, r"knows 3 classes \(a, b, c\), but the data has 10 classes \(0, 1, 2, ...\)"),
        ({"teacher": "broad"}, "sees 5 channels, but the student 1"),
        ({"objective": ClassifyConfig(distillation_weight=0.1)}, "no teacher to learn from; give --teacher"),
        ({"teacher": "vit", "objective": ClassifyConfig(distillation_temperature=2.0)}, "hard distillation has none"),
        ({"teacher": "vit", "objective": ClassifyConfig(distillation_weight=1.5)}, "at least 0 and at most 1"),
        ({"teacher": "vit", "objective": MaskedAutoencoderConfig()}, "learns from images alone"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(changed, reason: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("vit"), TINY.model, DIGITS)
    write(Path("letters"), replace(TINY.model, classes=3), ("a", "b", "c"))
    model = replace(TINY.model, classes=0)
    save_model("headless", ModelFolder(create(model, 0), TINY.preprocess, TINY.decode, ()))
    broad = replace(TINY.model, channels=5)
    save_model("broad", ModelFolder(create(broad, 0), replace(TINY.preprocess, mode=5), TINY.decode, DIGITS))
    with pytest.raises((ConfigError, CheckpointError), match=reason):
        train(replace(STUDENT, **changed), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_outputs_without_names_are_the_classes_in_order(tmp_path: Path) -> None:
    listener, unnamed = Listener(), tuple(f"class {number}" for number in range(10))
    config = replace(STUDENT, teacher=write(tmp_path / "unnamed", TINY.model, unnamed))
    assert open_teacher(config, open_dataset(TINY.data), listener).outputs.tolist() == list(range(10))
    assert any("in their order" in text for text in listener.messages)
