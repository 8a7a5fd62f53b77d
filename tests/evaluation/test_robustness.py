"""Accuracy under corruptions: the pixels that reach the model, the figures, and the report."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.reports.test_blocks import Reader

import vitreous
from vitreous.data.sources.base import ArraySource
from vitreous.errors import ConfigError, DataError, UnknownName
from vitreous.evaluation import packed_curve
from vitreous.evaluation.accuracy import evaluate
from vitreous.evaluation.merge_curve import measure_merge_curve
from vitreous.evaluation.robustness import Cell, Corrupted, Robustness, check_severities, choose_corruptions, robustness
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.corruptions.catalog import CORRUPTIONS, corrupt
from vitreous.images.preprocess import preprocess_image
from vitreous.images.tensors import normalize
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Report, render_html, render_markdown
from vitreous.reports.evaluation.robustness import build_sections, format_lines
from vitreous.weights.model_folder import ModelFolder

PREPROCESS = PreprocessConfig(size=(8, 8), crop=0.8)
CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def predictor():
    config = ViTConfig(image=(8, 8), patch=(4, 4), channels=3, width=16, depth=1, heads=2, mlp_width=16, classes=3)
    model = create(config)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(3))
    return Predictor(ModelFolder(model, PREPROCESS, DecodeConfig(), CLASSES, {}), device="cpu")


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(23, 12, 14, 3), dtype=np.uint8)
    names = tuple(f"{number}.png" for number in range(23))
    return ArraySource(pixels, names, rng.integers(3, size=23), CLASSES, "print")


def test_the_model_sees_what_corrupt_makes_of_the_preprocessed_image(predictor, source):
    """By hand: preprocess, corrupt with (0, index), normalise, forward."""
    found = robustness(predictor, source, ("fog", "pixelate"), (2, 5), batches=(10, 0))
    assert [(one.corruption, one.severity) for one in found.cells] == [
        ("fog", 2), ("fog", 5), ("pixelate", 2), ("pixelate", 5),
    ]  # fmt: skip
    for cell in found.cells:
        pixels = [
            corrupt(preprocess_image(image, DecodeConfig(), PREPROCESS), cell.corruption, cell.severity, (0, index))
            for index, image in enumerate(source.pixels)
        ]
        with torch.no_grad():
            logits = predictor.model(normalize(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), PREPROCESS))
        assert cell.top1 == pytest.approx((logits.argmax(1).numpy() == source.labels).mean())
    assert found.clean == evaluate(predictor, source)[0].top1
    assert found.mean == pytest.approx(np.mean([cell.top1 for cell in found.cells]))
    assert found.interval[0] <= found.mean <= found.interval[1]
    assert found.mean_of("fog") == pytest.approx((found.cells[0].top1 + found.cells[1].top1) / 2)
    assert found.mean_of(None, 5) == pytest.approx((found.cells[1].top1 + found.cells[3].top1) / 2)
    assert found.drop == pytest.approx((found.clean - found.mean) / found.clean)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["drop"] == found.drop


def test_batches_and_workers_change_nothing(predictor, source):
    one, other = (robustness(predictor, source, ("snow",), (3,), batches=batches) for batches in ((4, 0), (23, 1)))
    assert one == other


class OnceFinite:
    """Logits that are finite in the first pass over the images alone."""

    def __init__(self, compute, calls):
        self.compute, self.left = compute, calls

    def __call__(self, *arguments):
        self.left -= 1
        return self.compute(*arguments) * (1.0 if self.left >= 0 else torch.nan)


def test_outputs_that_are_not_finite_are_refused_in_every_measurement(predictor, source, monkeypatch):
    """A NaN has an argmax, and would be scored as an answer."""
    whole = OnceFinite(predictor.logits, 1)
    broken = copy.copy(predictor)
    object.__setattr__(broken, "logits", whole)
    with pytest.raises(DataError, match="23 of 23 outputs of the model are not finite"):
        robustness(broken, source, ("fog",), (1,))
    labels = source.labels
    with monkeypatch.context() as patch, pytest.raises(DataError, match="outputs of the model are not finite"):
        patch.setattr(packed_curve, "compute_logits", OnceFinite(packed_curve.compute_logits, 0))
        packed_curve.measure_packed_curve(predictor, source, labels, (8,))
    with monkeypatch.context() as patch, pytest.raises(DataError, match="outputs of the model are not finite"):
        patch.setattr(Predictor, "logits", OnceFinite(lambda pixels: torch.zeros(len(pixels), 3), 1))
        measure_merge_curve(predictor, source, labels, (0, 1))


def test_no_two_images_share_their_noise(source):
    flat = ArraySource(np.full((2, 8, 8, 3), 128, np.uint8), ("a", "b"), np.zeros(2, np.int64), CLASSES, "")
    noisy = Corrupted(flat, DecodeConfig(), PREPROCESS, "gaussian_noise", 5)
    assert (noisy.read(0) != noisy.read(1)).mean() > 0.5
    np.testing.assert_array_equal(noisy.read(0), noisy.read(0))
    assert (noisy.labels is flat.labels, noisy.classes, noisy.names, len(noisy)) == (True, CLASSES, ("a", "b"), 2)
    assert noisy.fingerprint != Corrupted(flat, DecodeConfig(), PREPROCESS, "fog", 5).fingerprint


def test_progress_comes_to_its_end(predictor, source):
    told = []
    robustness(predictor, source, ("contrast",), (1, 2), lambda *now: told.append(now), (10, 0))
    assert told[0] == (10, 69, "clean")
    assert told[-1] == (69, 69, "contrast")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


@pytest.mark.parametrize(("clean", "said"), [(0.5, "50.0% gained"), (0.8, "6.3% lost"), (0.7502, "0.0% lost")])
def test_what_is_gained_is_not_lost(predictor, source, clean, said):
    cells = tuple(Cell(name, severity, 0.75) for name in ("fog", "snow") for severity in (1, 2))
    found = Robustness(100, clean, 0.75, (0.7, 0.8), cells)
    page = render_markdown(Report("", "", build_sections(found, predictor, source)))
    assert page.count(said) == 4  # in front, of each corruption, and of all
    share, _, verb = said.partition(" ")
    assert f"{share} of clean accuracy {verb}" in format_lines(found)[1]
    assert not re.search(r"-\d+\.\d%", page)


def test_nothing_right_at_all(predictor, source):
    logits = evaluate(predictor, source)[1]
    wrong = ArraySource(source.pixels, source.names, (logits.argmax(1) + 1) % 3, CLASSES, "")
    found = robustness(predictor, wrong, ("contrast",), (1,))
    assert (found.clean, found.drop) == (0, None)
    assert "–" in render_markdown(Report("", "", build_sections(found, predictor, wrong)))


def test_names_and_severities():
    assert choose_corruptions(("all",)) == tuple(CORRUPTIONS)
    assert choose_corruptions(("snow", "fog", "snow")) == ("snow", "fog")
    assert check_severities((3, 1, 3)) == (1, 3)
    with pytest.raises(UnknownName, match="did you mean 'fog'"):
        choose_corruptions(("fogg",))
    with pytest.raises(ConfigError, match="severities are 0, 7; they must be 1 to 5"):
        check_severities((0, 3, 7))
    with pytest.raises(ConfigError, match="severities are none at all"):
        check_severities(())


def test_unknown_classes_are_told_before_anything_is_measured(predictor, source):
    other = ArraySource(source.pixels, source.names, source.labels, ("a", "b", "z"), "")
    with pytest.raises(DataError, match="doesn't know: 'z'"):
        robustness(predictor, other, ("fog",), (1,))


def test_the_report(predictor, source):
    found = robustness(predictor, source, ("fog", "elastic_transform"), (1, 5))
    report = Report("t", "l", build_sections(found, predictor, source))
    reader = Reader(render_html(report).decode())
    assert not reader.open
    assert len([tag for tag, _ in reader.tags if tag == "img"]) == 2
    text = render_markdown(report)
    assert re.search(r"\| corruption \| group \| mean \| relative to clean \| 1 \| 5 \|", text)
    assert "| elastic transform | digital |" in text
    assert f"**{found.mean:.1%}**" in text


def test_a_model_that_keeps_channels_is_refused_before_anything_is_measured(predictor):
    """Even before the data is looked for."""
    kept = replace(predictor.folder, preprocess=replace(PREPROCESS, mode=3))
    with pytest.raises(ConfigError, match="corruptions need colours in 8 bits"):
        vitreous.evaluate(Predictor(kept, device="cpu"), "nowhere", corruptions="fog")
