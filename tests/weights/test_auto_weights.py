"""auto: the recommended model where it can be had, the starter weights where not, and for ever the same once it is chosen."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tests.support.hub import Hub
from tests.weights.test_hub import Heard, small_model
from tests.weights.test_hub import weights as weights

import vitreous
from vitreous.api.config_layers import pin_weights
from vitreous.errors import CheckpointError, ConfigError, UserError
from vitreous.training.reporter import Reporter
from vitreous.weights import auto_weights
from vitreous.weights.auto_weights import choose_weights, find_image, is_named, resolve_weights
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import save_model
from vitreous.weights.recommended import AUTO


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "starter"
    save_model(folder, small_model())
    monkeypatch.setattr(auto_weights, "STARTER", folder)
    return folder


@pytest.fixture
def no_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_weights, "STARTER", tmp_path / "nothing")


def test_auto_is_the_recommended_model_pinned_and_said(hub: Hub, weights: Path, no_starter: None) -> None:
    commit, heard = hub.add(AUTO.repository, weights), Heard()
    assert choose_weights(heard) == f"{AUTO.repository}@{commit}"
    said = "\n".join(heard.said)
    for word in (AUTO.repository, hub.url, "apache-2.0", commit, "weights auto: dinov2-s"):
        assert word in said
    hub.asked.clear()
    (weights / "config.json").write_text((weights / "config.json").read_text() + " ")
    hub.add(AUTO.repository, weights)
    assert resolve_weights("auto") == f"{AUTO.repository}@{commit}", "what is in the cache is taken"
    assert hub.asked == []
    assert open_model("auto")[0].classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("how", ["offline", "no network", "busy", "missing", "broken"])
def test_where_it_can_not_be_had_the_starter_weights_are_taken_and_said(
    how: str, hub: Hub, weights: Path, starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitreous.weights.transfer.time.sleep", lambda seconds: None)
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if how == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    if how == "busy":
        hub.status = 429
    if how == "broken":
        hub.add(AUTO.repository, weights)
        hub.cut = [100, *[0] * 9]
    heard = Heard()
    digest = json.loads((starter / "config.json").read_text())["weights"]["sha256"][:12]
    assert choose_weights(heard) == f"starter@{digest}"
    assert heard.said[-1].startswith("weights auto: the starter weights in this package, a small ResNet, since ")
    assert "\n" not in heard.said[-1]
    pixels = torch.randn(1, 3, 32, 48)
    ours = open_model(f"starter@{digest}")[0].model
    assert torch.equal(ours(pixels), small_model().model.eval()(pixels))


def test_without_either_it_says_how_to_go_on(hub: Hub, no_starter: None) -> None:
    hub.status = 503
    for use in (resolve_weights, open_model):
        with pytest.raises(
            UserError, match=r"auto finds no weights: the Hub answers 503 .* train from scratch"
        ) as caught:
            use("auto")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="this package has no starter weights"):
        open_model("starter")


def test_starter_weights_of_another_version_are_not_taken_for_these(starter: Path) -> None:
    name = resolve_weights("starter")
    assert resolve_weights(name) == name
    with pytest.raises(CheckpointError, match=rf"starter@000000000000 were the starter weights of another .* {name}"):
        open_model("starter@000000000000")


def test_what_is_here_goes_first_but_for_auto(hub: Hub, starter: Path, tmp_path: Path) -> None:
    for name in ("auto", "starter", "dinov2-s"):
        shutil.copytree(starter, Path(name))
    assert [is_named(name) for name in ("auto", "./auto", "starter", "dinov2-s")] == [True, False, False, False]
    assert [resolve_weights(name) for name in ("./auto", "starter", "dinov2-s")] == ["./auto", "starter", "dinov2-s"]
    Path("runs").mkdir()
    assert resolve_weights("runs/gone") == "runs/gone"
    assert find_image("timm/vit_small_patch14_reg4_dinov2.lvd142m@main") == (224, 224)
    assert find_image("runs/a") is None


def test_a_run_notes_the_commit_and_goes_on_with_it_offline(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = hub.add("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", weights)
    pinned = f"timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k@{commit}"
    quick = {"duration": "1st", "batch": 4, "workers": 0, "schedule": {"warmup": "0st"}, "augment": {"crop": "eval"}}
    heard: Reporter = _Reporter()
    data = "formula:atoms?classes=3&images=12"
    result = vitreous.train(
        data, recipe="finetune", weights="augreg-ti", image=(32, 48), settings=quick, reporter=heard
    )
    document = json.loads((result.run / "config.json").read_text())
    assert document["config"]["weights"] == pinned
    assert any(
        f"downloading timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k from {hub.url}" in line for line in heard.said
    )
    (weights / "config.json").write_text((weights / "config.json").read_text() + " ")
    hub.add("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", weights)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for folder in ("checkpoints", "model"):  # as if it was killed before its first checkpoint
        shutil.rmtree(result.run / folder)
    (result.run / "metrics.jsonl").write_text("")
    again = vitreous.resume(result.run)
    assert json.loads((again.run / "config.json").read_text())["config"]["weights"] == pinned


def test_wherever_a_run_names_its_weights_they_are_pinned_once(hub: Hub, weights: Path) -> None:
    commit = hub.add("somebody/vit", weights)
    wishes, settings = pin_weights(
        {"weights": Path("somebody/vit")}, {"weights": "somebody/vit", "seed": 1}, _Reporter()
    )
    assert wishes["weights"] == settings["weights"] == f"somebody/vit@{commit}" and settings["seed"] == 1
    assert sum("/api/models/" in line for line in hub.asked) == 1
    assert pin_weights({"image": (8, 8)}, {"weights": None}, _Reporter()) == ({"image": (8, 8)}, {"weights": None})


class _Reporter(Heard):
    def evaluation(self, step: int, numbers: object, best: bool) -> None:
        """Ignore it."""

    def close(self) -> None:
        """Ignore it."""


def test_names_of_other_libraries_load_too(tmp_path: Path) -> None:
    save_model(tmp_path / "model", small_model())
    pixels = torch.rand(2, 3, *small_model().model.config.image)
    expected = vitreous.load(tmp_path / "model", device="cpu").model(pixels)
    for load in (vitreous.from_pretrained, vitreous.Predictor.from_pretrained):
        assert torch.equal(load(tmp_path / "model", device="cpu").model(pixels), expected)


@pytest.mark.parametrize("name", ["dinov2-s", "timm/vit_small_patch14_reg4_dinov2.lvd142m"])
def test_weights_named_as_an_architecture_are_answered_by_what_to_type(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"vitreous.load({name!r})")):
        vitreous.create(name)
    with pytest.raises(ConfigError, match=re.escape(f"--weights {name}")):
        vitreous.train("digits", model=name)
    with pytest.raises(ConfigError, match=r"vitreous.load opens a pre-trained one"):
        vitreous.create("S/16", pretrained=True)
