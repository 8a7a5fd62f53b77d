"""Model folders: what is saved comes back to the bit, and what doesn't fit is refused in one clear line."""

import itertools
import json
import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vitreous
from vitreous.engines.torch_engine import to_probabilities
from vitreous.errors import CheckpointError, ConfigError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.run_folder import Run
from vitreous.storage.safetensors_file import load_tensors, save_tensors
from vitreous.weights.compatibility import describe
from vitreous.weights.model_folder import ModelFolder, load_model, save_model

TINY = ViTConfig(image=(8, 12), patch=(4, 4), channels=1, width=8, depth=2, heads=2, mlp_width=16, classes=3)


def folder_of(config=TINY, seed=0, **changes):
    model = create(config, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(seed))
    classes = tuple(f"class {i}" for i in range(config.classes))
    preprocess = PreprocessConfig(
        size=config.image, mode="L" if config.channels == 1 else "RGB", mean=(0.1,), std=(0.3,)
    )
    return ModelFolder(model, preprocess, DecodeConfig(max_pixels=10**6), classes, {"recipe": "small"}, **changes)


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "model", folder_of())
    return tmp_path / "model"


def edit(path, **changes):
    """Change config.json; None removes a key."""
    document = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def rewrite(path, tensors):
    """Change the weights and put their hash right, as a different writer would."""
    digest = save_tensors(path / "model.safetensors", tensors)
    size = (path / "model.safetensors").stat().st_size
    edit(path, weights={"file": "model.safetensors", "sha256": digest, "bytes": size})


def refused(path, words, **options):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


configs = st.builds(
    lambda grid, patch, heads, **rest: ViTConfig(
        image=(grid[0] * patch[0], grid[1] * patch[1]), patch=patch, heads=heads, width=4 * heads, **rest
    ),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    heads=st.integers(1, 3),
    channels=st.integers(1, 4),
    depth=st.integers(1, 2),
    mlp_width=st.integers(1, 9),
    classes=st.integers(0, 4),
    pool=st.sampled_from(["class", "mean"]),
    positions=st.sampled_from(["learned", "sincos2d", "none"]),
    pre_logits=st.booleans(),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(configs, st.integers(0, 100))
def test_every_architecture_comes_back_to_the_bit(tmp_path, config, seed):
    given_folder = folder_of(config, seed)
    save_model(tmp_path / "model", given_folder)
    loaded = load_model(tmp_path / "model", verify=True)
    ours, theirs = loaded.model.state_dict(), given_folder.model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert loaded.model.config == config
    assert replace(loaded, model=given_folder.model, origin=given_folder.origin) == given_folder
    images = torch.rand(2, config.channels, *config.image)
    with torch.inference_mode():
        assert torch.equal(loaded.model(images), given_folder.model.eval()(images))


def test_origin_and_versions_travel(saved):
    origin = load_model(saved).origin
    assert origin["recipe"] == "small"
    assert origin["versions"]["torch"] == torch.__version__
    again = saved.parent / "again"
    loaded = load_model(saved)
    save_model(again, replace(loaded, origin=loaded.origin | {"versions": {"vitreous": "0.0"}}))
    assert load_model(again).origin == {"recipe": "small", "versions": {"vitreous": "0.0"}}


def test_a_loaded_model_can_be_trained(saved):
    model = load_model(saved).model
    assert not model.training
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    model.train()(torch.rand(2, 1, 8, 12)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not torch.equal(model.head.bias, load_model(saved).model.head.bias)


def test_settings_of_training_are_left_out(tmp_path):
    folder = folder_of()
    folder.model.regularise(RegularisationConfig(dropout=0.1, drop_path=0.2))
    save_model(tmp_path / "model", folder)
    assert "drop" not in (tmp_path / "model" / "config.json").read_text()
    assert load_model(tmp_path / "model").model.regularisation == RegularisationConfig()


def test_loading_draws_no_random_numbers(saved):
    before = torch.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_save_replaces_the_first(saved):
    other = folder_of(seed=1)
    save_model(saved, other)
    assert torch.equal(load_model(saved).model.head.weight, other.model.head.weight)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_other_folders_are_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(CheckpointError, match="is not a model folder; choose another name"):
        save_model(tmp_path / "photos", folder_of())
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_half_floats_are_widened_exactly(saved):
    halves = {name: tensor.bfloat16() for name, tensor in load_tensors(saved / "model.safetensors")[0].items()}
    rewrite(saved, halves)
    model = load_model(saved).model
    assert all(torch.equal(tensor, halves[name].float()) for name, tensor in model.state_dict().items())


def test_class_names_must_match_the_outputs(tmp_path, saved):
    with pytest.raises(ConfigError, match="the model has 3 outputs, but 2 class names were given"):
        save_model(tmp_path / "other", replace(folder_of(), classes=("a", "b")))
    edit(saved, classes=["a"])
    refused(saved, "names 1 classes for a model with 3")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_ruined_weights_are_named(saved, value):
    tensors = {name: tensor.clone() for name, tensor in load_tensors(saved / "model.safetensors")[0].items()}
    tensors["blocks.1.norm1.weight" if "blocks.1.norm1.weight" in tensors else "norm.weight"][2] = value
    rewrite(saved, tensors)
    refused(saved, r"norm\S*\.weight has 1 of 8 values NaN or infinite")
    broken = folder_of()
    with torch.no_grad():
        broken.model.head.bias[0] = value
    with pytest.raises(CheckpointError, match=r"head\.bias has 1 of 3 values"):
        save_model(saved, broken)


def test_large_finite_weights_are_fine(tmp_path):
    folder = folder_of()
    with torch.no_grad():
        folder.model.head.weight.fill_(3e38)
    save_model(tmp_path / "model", folder)
    assert load_model(tmp_path / "model").model.head.weight[0, 0] == torch.tensor(3e38)


def test_missing_unexpected_and_misshapen_weights_are_named(saved):
    tensors = load_tensors(saved / "model.safetensors")[0]
    without = {name: tensor for name, tensor in tensors.items() if name != "norm.bias"}
    rewrite(saved, without)
    assert "missing: norm.bias" in refused(saved, "holds another architecture")
    rewrite(saved, tensors | {"norm.extra": torch.zeros(1)})
    assert "unexpected: norm.extra" in refused(saved, "holds another architecture")
    rewrite(saved, tensors | {"head.weight": torch.zeros(5, 8)})
    message = refused(saved, r"2 blocks of width 8\), but a ViT with patch 4 for 8x12 images")
    assert "head.weight is 5x8, expected 3x8" in message


def test_weights_of_another_type_are_refused(saved):
    tensors = load_tensors(saved / "model.safetensors")[0]
    rewrite(saved, tensors | {"norm.bias": torch.zeros(8, dtype=torch.float64)})
    refused(saved, r"norm\.bias is torch\.float64, expected float32")


def test_another_grid_names_both_grids_and_the_rule(saved):
    document = json.loads((saved / "config.json").read_text())
    edit(saved, architecture=document["architecture"] | {"image": [12, 12]})
    refused(saved, r"positions for a grid of 2x3 patches.*needs 3x3.*rule bicubic-antialias")


def test_a_claimed_depth_is_checked_before_anything_is_built(saved):
    document = json.loads((saved / "config.json").read_text())
    edit(saved, architecture=document["architecture"] | {"depth": 10_000})
    refused(saved, "holds weights of 2 blocks, expected .*depth 10000")
    edit(saved, architecture=document["architecture"] | {"depth": 10**9})
    refused(saved, "depth is 1000000000; it must be a finite number of at most 10,000")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vitreous_model": 7}, "is a model folder of format 7; this vitreous reads formats 1 to 2"),
        ({"vitreous_model": None, "model_type": "vit"}, "is not a model folder of vitreous"),
        ({"architecture": None}, "is damaged: it has no 'architecture'"),
        ({"architecture": {"widht": 3}}, "unknown setting in architecture 'widht'; did you mean 'width'"),
        ({"architecture": {"width": "8"}}, "architecture.width is '8'; it must be a whole number"),
        ({"architecture": {"width": 7, "heads": 2}}, "heads must divide the width"),
        ({"preprocess": []}, "preprocess must be an object"),
        ({"classes": "abc"}, "classes is 'abc'; it must be a list"),
        ({"classes": [1, 2, 3]}, r"classes\[0\] is 1; it must be text"),
        ({"positions": {"grid": [2, 3], "resize": "bicubik"}}, "unknown resize rule 'bicubik'; did you mean 'bicubic'"),
        ({"weights": {"file": "../../x", "sha256": "0", "bytes": 1}}, "is damaged: it has"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(saved, changes, words):
    edit(saved, **changes)
    refused(saved, words)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 10**5, b"\x00" * 100])
def test_a_damaged_config_is_one_line(saved, text):
    (saved / "config.json").write_bytes(text)
    refused(saved, "is damaged|is not a model folder of vitreous")


def test_a_key_that_stands_twice_is_refused(saved):
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text(text.replace('"crop"', '"crop": 0.5, "crop"'))
    refused(saved, "config.json: 'crop' is given twice")
    with pytest.raises(CheckpointError, match="'crop' is given twice"):
        vitreous.load(saved)


def test_damaged_weights_show_by_size_and_by_hash(saved):
    weights = saved / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1])
    refused(saved, "was written with")
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(saved, "its SHA-256 differs from the one")
    load_model(saved, verify=False)
    weights.unlink()
    refused(saved, "No such file")


def test_what_is_no_model_folder(tmp_path, saved):
    refused(tmp_path / "nowhere", "no such model folder")
    refused(tmp_path, r"is not a model folder: it has no config\.json")
    refused(saved / "model.safetensors", "is a file; give the model folder")


def test_a_run_folder_stands_for_its_model(tmp_path):
    with Run.create(tmp_path / "run", {}) as run:
        refused(run.path, "has exported no model yet .it has no checkpoint yet")
        run.save_checkpoint(40, {}, {})
        refused(run.path, r"it is at step 40\); wait for its first evaluation, or resume it with `vitreous resume")
        save_model(run.model_path, folder_of())
        assert load_model(run.path).classes == folder_of().classes


def test_between_two_models_the_old_one_loads(saved):
    saved.rename(saved.parent / ".model.previous")
    assert load_model(saved).classes == folder_of().classes


def test_a_model_that_is_replaced_while_it_loads_is_never_mixed(saved):
    stop, models = (
        threading.Event(),
        {name: replace(folder_of(seed=seed), classes=(name,) * 3) for seed, name in enumerate("ab")},
    )
    save_model(saved, models["a"])

    def keep_saving():
        for folder in itertools.cycle(models.values()):
            save_model(saved, folder)
            if stop.wait(0.1):
                return

    writer = threading.Thread(target=keep_saving)
    writer.start()
    try:
        for _ in range(10):
            loaded = load_model(saved)
            assert torch.equal(loaded.model.head.weight, models[loaded.classes[0]].model.head.weight)
    finally:
        stop.set()
        writer.join()


def test_any_name_will_do(tmp_path, monkeypatch):
    for name in ("a model [1]*", "模型", "-x", "new\nline"):
        save_model(tmp_path / name, folder_of())
        save_model(tmp_path / name, folder_of())
        assert load_model(tmp_path / name).classes == folder_of().classes
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_model(".", folder_of())
    assert load_model(tmp_path / "here").classes == folder_of().classes


def test_architectures_are_described_by_name():
    assert (
        describe(build_vit_config("S/16", classes=10))
        == "S/16 for 224x224 images (width 384, depth 12, heads 6, mlp 1536, 10 classes)"
    )


def test_multilabel_is_kept(tmp_path):
    save_model(tmp_path / "one", folder_of())
    save_model(tmp_path / "multilabel", folder_of(multilabel=True))
    assert "multilabel" not in json.loads((tmp_path / "one" / "config.json").read_text())
    assert [load_model(tmp_path / name).multilabel for name in ("one", "multilabel")] == [False, True]
    edit(tmp_path / "multilabel", multilabel="perhaps")
    refused(tmp_path / "multilabel", "multilabel")
    logits = torch.tensor([[0.0, 2.0, -1.0]])
    torch.testing.assert_close(to_probabilities(logits, folder_of(multilabel=True)), logits.sigmoid())
    torch.testing.assert_close(to_probabilities(logits, folder_of()), logits.softmax(1))


def test_a_temperature_comes_back_and_divides_logits_whatever_an_image_may_have(tmp_path):
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    for several, expected in ((False, torch.softmax(logits / 2.5, -1)), (True, torch.sigmoid(logits / 2.5))):
        save_model(tmp_path / f"{several}", folder_of(temperature=2.5, multilabel=several))
        again = load_model(tmp_path / f"{several}")
        assert again.temperature == 2.5
        torch.testing.assert_close(to_probabilities(logits, again), expected, rtol=1e-12, atol=0)


def test_a_folder_without_a_temperature_is_as_before(saved):
    assert "temperature" not in json.loads((saved / "config.json").read_text())
    assert load_model(saved).temperature == 1.0


@pytest.mark.parametrize("temperature", [0, -1.5, "warm", float("nan"), float("inf")])
def test_no_temperature_is_refused(saved, temperature):
    edit(saved, temperature=temperature)
    refused(saved, "temperature")
    if not isinstance(temperature, str):
        with pytest.raises(ConfigError, match="it must be a number above 0"):
            save_model(saved, folder_of(temperature=float(temperature)))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_a_model_folder_stands_for_the_folder(saved, name):
    one, other = vitreous.load(saved / name), vitreous.load(saved)
    assert one.folder.classes == other.folder.classes and one.folder.preprocess == other.folder.preprocess
    pixels = one.make_black_images(2)
    assert torch.equal(
        one.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2)),
        other.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2)),
    )
