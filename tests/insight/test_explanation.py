"""From images to arrays: each method is the function of insight that it names, with the layer, head and class chosen."""

import numpy as np
import pytest
import torch
from tests.support.explanations import CLASSES, folder, pictures

import vitreous
from vitreous.errors import ConfigError, DataError, ImageError
from vitreous.images.preprocess import preprocess_image
from vitreous.insight import explanation as room
from vitreous.insight.activations import compute_activation_map, grad_cam
from vitreous.insight.attention import pool_maps, read_attention
from vitreous.insight.explanation import explain, open_inside
from vitreous.insight.methods import METHODS, MapOptions, list_fitting, settle_options
from vitreous.insight.relevance import compute_gradient_attention, compute_relevance
from vitreous.insight.rollout import compute_rollout
from vitreous.predictor import Predictor

FITTING = {
    "plain": "relevance rollout attention gradient activation",
    "pooling": "relevance rollout pooling attention gradient activation",
    "headless": "rollout attention activation",
    "hybrid": "relevance rollout attention gradient grad-cam activation",
    "resnet": "grad-cam activation",
    "headless resnet": "activation",
}


@pytest.mark.parametrize("kind", FITTING)
def test_which_methods_fit(kind):
    made = folder(kind)
    assert list_fitting(made) == FITTING[kind].split()
    assert settle_options(MapOptions(), made).method == list_fitting(made)[0]
    assert {name for kind in FITTING for name in list_fitting(folder(kind))} == set(METHODS)


def test_each_method_is_its_function():
    made, resnet, pooling = folder("plain"), folder("resnet"), folder("pooling")
    pixels, model = explain(made, pictures()).pixels, made.model
    images = open_inside(made).images(pixels)
    best = model(images).argmax(1).tolist()
    expected = {
        ("relevance",): compute_relevance(model, images, best),
        ("rollout",): compute_rollout(model, images),
        ("attention",): read_attention(model, images).mean(1),
        ("attention", 1, 0): read_attention(model, images, 1)[:, 0],
        ("gradient", -3, 1): compute_gradient_attention(model, images, best, 0)[:, 1],
        ("activation", 0): compute_activation_map(model, images, 0),
    }
    for options, maps in expected.items():
        np.testing.assert_allclose(explain(made, pictures(), *options).maps, maps.numpy(), atol=1e-6)
    found = explain(made, pictures(), "relevance", target="fish")
    assert found.targets.tolist() == [2, 2, 2]
    np.testing.assert_allclose(found.maps, compute_relevance(model, images, 2).numpy(), atol=1e-6)
    found = explain(resnet, pictures(), layer=0, target=1)
    images = open_inside(resnet).images(found.pixels)
    np.testing.assert_allclose(found.maps, grad_cam(resnet.model, images, 1, 0).numpy(), atol=1e-6)
    found = explain(pooling, pictures(), "pooling", head=1)
    images = open_inside(pooling).images(found.pixels)
    np.testing.assert_allclose(found.maps, pool_maps(pooling.model, images)[:, 1].numpy(), atol=1e-6)


def test_what_comes_beside_the_maps(monkeypatch):
    made, many = folder("plain"), pictures()
    found = explain(made, many, "attention")
    assert (found.method, found.layer, found.classes) == ("attention", None, CLASSES)
    assert found.names == ("image 1", "image 2", "image 3")
    for own, image in zip(found.pixels, many, strict=True):
        assert np.array_equal(own, preprocess_image(image, made.decode, made.preprocess))
    predicted = Predictor(made)(many)
    for own, one in zip(found.probabilities, predicted, strict=True):
        assert CLASSES[own.argmax()] == one.label
        assert own.max() == pytest.approx(one.score, abs=1e-6)
    assert found.targets.tolist() == found.probabilities.argmax(1).tolist()
    np.testing.assert_allclose(found.by_head.mean(1), found.maps, atol=1e-6)
    monkeypatch.setattr(room, "BATCH", 2)
    np.testing.assert_allclose(explain(made, many, "attention").by_head, found.by_head, atol=1e-6)


def test_models_and_images_in_any_form(tmp_path):
    from vitreous.weights.model_folder import save_model

    made = folder("plain")
    save_model(tmp_path / "model", made)
    expected = explain(made, pictures(1)).maps
    for model in (tmp_path / "model", str(tmp_path / "model"), Predictor(made)):
        np.testing.assert_allclose(vitreous.explain(model, pictures(1)[0]).maps, expected, atol=1e-6)
    found = vitreous.explain(folder("headless"), pictures(2))
    assert isinstance(found, vitreous.Explanation)
    assert found.probabilities.shape == (2, 0)
    assert found.targets.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("plain", {"method": "rollot"}, "did you mean 'rollout'"),
        ("plain", {"method": "grad-cam"}, "grad-cam doesn't fit this Vision Transformer; these do: relevance, rollout"),
        ("plain", {"method": "pooling"}, "pooling doesn't fit"),
        ("resnet", {"method": "attention"}, "attention doesn't fit a ResNet; these do: grad-cam, activation"),
        ("headless", {"method": "relevance"}, "without head; these do: rollout"),
        ("plain", {"layer": 1}, "relevance takes no layer; it is for attention, gradient, activation"),
        ("plain", {"method": "attention", "layer": 3}, "layer 3 is outside the model's 3; use 0 to 2"),
        ("plain", {"method": "attention", "head": 2}, "head 2 is outside the model's 2"),
        ("plain", {"target": "cta"}, "did you mean 'cat'"),
        ("plain", {"target": 5}, "class 5 is outside"),
        ("headless", {"target": "cat"}, "rollout takes no target; this Vision Transformer without head doesn't use"),
        ("resnet", {"layer": 2}, "layer 2 is outside the model's 2"),
    ],
)
def test_mistakes(kind, options, words):
    with pytest.raises(ConfigError, match=words):
        explain(folder(kind), pictures(), **options)


def test_a_class_by_its_name_before_its_number():
    assert settle_options(MapOptions(target="7"), folder("plain")).target == 4
    assert settle_options(MapOptions(target="2"), folder("plain")).target == 2


def test_the_one_map_of_a_hybrids_convolutions_is_its_first_and_last_layer():
    hybrid = folder("hybrid")
    assert [settle_options(MapOptions("grad-cam", layer), hybrid).layer for layer in (None, 0, -1)] == [None, 0, 0]
    with pytest.raises(ConfigError, match="layer 1: for a hybrid, grad-cam reads the one map"):
        settle_options(MapOptions("grad-cam", 1), hybrid)


def test_images_that_are_none():
    with pytest.raises(DataError, match="no images"):
        explain(folder("plain"), [])
    with pytest.raises(ImageError, match="image 2"):
        explain(folder("plain"), [pictures(1)[0], b"nothing"])


def test_looking_changes_no_weight():
    made = folder("plain")
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    explain(made, pictures())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.model.state_dict().items())
