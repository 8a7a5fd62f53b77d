"""Token merging from the doors: what predict and evaluate make of it, in Python and in a terminal."""

import json

import numpy as np
import pytest
import torch
from tests.deploy.conftest import save_plain, write_classes

import vitreous as package
from vitreous.engines.torch_engine import to_probabilities
from vitreous.errors import ConfigError
from vitreous.images.preprocess import normalize_array
from vitreous.model.token_merging import Merging
from vitreous.weights.model_folder import load_model, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved ViT of 24 patches."""
    return save_plain(tmp_path_factory.mktemp("merging") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four images of each of its classes."""
    noise = np.random.default_rng(3)
    blocks = (np.kron(noise.integers(256, size=(4, 6, 3)), np.ones((8, 8, 1))) for _ in range(12))
    return write_classes(tmp_path_factory.mktemp("photos"), (one.astype(np.uint8) for one in blocks))


def expected(model, pairs, photo):
    """Probabilities by the mathematics alone, from the same pixels."""
    from vitreous.images.inputs import prepare

    folder = load_model(model)
    pixels = normalize_array(prepare(photo, 1, folder).pixels[None], folder.preprocess)
    with torch.no_grad():
        return to_probabilities(Merging(folder.model, pairs)(torch.from_numpy(pixels)), folder)[0]


@pytest.mark.parametrize("pairs", [0, 2, 7])
def test_predictions_are_those_of_merged_patches(model, photos, pairs) -> None:
    photo = next((photos / "class 1").iterdir())
    found = dict(package.load(model, top=3, merge=pairs)(photo).top)
    torch.testing.assert_close(
        torch.tensor([found[name] for name in ("class 0", "class 1", "class 2")]),
        expected(model, pairs, photo),
        atol=1e-5,
        rtol=0,
    )


def test_predict_and_evaluate_take_merge(model, photos, vitreous, here) -> None:
    shown = vitreous("predict", model, photos, "--merge", 3, "--format", "jsonl", "--top", 3).worked()
    told = {one["path"] if "path" in one else one["name"]: one["label"] for one in map(json.loads, shown.splitlines())}
    predictor = package.load(model, merge=3)
    assert told == {str(path): predictor(path).label for path in photos.glob("*/*")}
    vitreous("evaluate", model, photos, "--merge", 3, "--no-speed", "--json", "merged.json").worked()
    assert json.loads((here / "merged.json").read_text())["top1"] == np.mean(
        [name in path for path, name in told.items()]
    )


def test_the_curve_is_that_of_single_evaluations(model, photos, vitreous, here) -> None:
    shown = vitreous(
        "evaluate", model, photos, "--merge-curve", 6, 2, "--no-speed", "--out", "page", "--json", "all.json"
    ).worked("patches left")
    points = json.loads((here / "all.json").read_text())["merging"]["points"]
    assert [(one["merge"], one["patches"]) for one in points] == [(0, 24), (2, 20), (6, 12)]
    for one in points:
        found = package.evaluate(package.load(model, merge=one["merge"]), photos, speed=False)
        assert one["top1"] == found.metrics.top1
        assert f"{one['top1']:.2%}" in shown
        assert one["images_per_second"] > 0
    assert points[0]["agreement"] == 1
    assert "Token merging" in (here / "page" / "report.html").read_text()


def test_numbers_are_chosen_for_the_model(model, photos) -> None:
    found = package.evaluate(model, photos, merge_curve=(), speed=False)
    assert [one.merge for one in found.merging.points] == [0, 2, 4, 5, 7, 9, 11]
    with pytest.raises(ConfigError, match="load the model without merge"):
        package.evaluate(package.load(model, merge=2), photos, merge_curve=())


def test_what_needs_places_refuses_merged_patches(model, photos, vitreous, here) -> None:
    merged = package.load(model, merge=2)
    for use in (package.embed, package.probe, package.explain):
        with pytest.raises(ConfigError, match="loaded with merge=2"):
            use(merged, photos)
    with pytest.raises(ConfigError, match="a model that merges its patches has no tokens"):
        merged.tokens(next(photos.glob("*/*")))
    with pytest.raises(ConfigError, match="holds the model without merging"):
        save_model(here / "saved", merged.folder)
    assert not (here / "saved").exists()
    vitreous("evaluate", model, photos, "--merge", 2, "--protocol", "knn").refused("--merge is for --protocol accuracy")
    vitreous("predict", model, photos, "--merge", 13).refused("at most half of this model's 24 patches")
    vitreous("evaluate", model, photos, "--merge-curve", "few").refused(
        "--merge-curve is 'few'; it must be whole numbers"
    )
