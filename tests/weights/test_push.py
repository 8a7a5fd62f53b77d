"""Models made here go to the Hub with a card, and come back the same."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants
from tests.support.hub import Hub
from tests.weights.test_hub import Heard, small_model

import vitreous
from vitreous.cli.main import main
from vitreous.errors import CheckpointError, DownloadFailed
from vitreous.metrics.classification import wilson_interval
from vitreous.weights.model_folder import load_model, save_model

QUICK = {"duration": "2st", "batch": 8, "workers": 0, "schedule": {"warmup": "0st"}}


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, out = "formula:atoms?classes=4&images=96&size=16", tmp_path_factory.mktemp("runs") / "run"
    return vitreous.train(data, model="mu/4", settings=QUICK, out=out).run


def test_a_run_goes_there_and_comes_back(hub: Hub, token: None, run: Path) -> None:
    heard = Heard()
    made = vitreous.push_to_hub(str(run), "me/atoms", private=True, licence="apache-2.0", reporter=_reporter(heard))
    assert made.url == f"{hub.url}/me/atoms" and str(made).endswith(made.commit)
    assert hub.repositories["me/atoms"].private and hub.repositories["me/atoms"].newest == made.commit
    assert set(hub.repositories["me/atoms"].files) == {"README.md", "config.json", "model.safetensors"}
    assert any("uploading me/atoms" in line for line in heard.said)
    pixels = torch.rand(3, 3, *load_model(run).model.config.image)
    for name in ("me/atoms", f"me/atoms@{made.commit}"):
        back = vitreous.load(name)
        assert back.folder.classes == load_model(run).classes
        assert torch.equal(back.folder.model(pixels), load_model(run).model(pixels))


def test_the_card_says_what_it_is(hub: Hub, token: None, run: Path) -> None:
    vitreous.push_to_hub(run, "me/atoms", licence="cc-by-4.0")
    text = hub.repositories["me/atoms"].files["README.md"].decode()
    card = yaml.safe_load(text.split("---")[1])
    assert (card["license"], card["library_name"], card["pipeline_tag"]) == (
        "cc-by-4.0",
        "vitreous",
        "image-classification",
    )
    assert "vit" in card["tags"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [one for one in records if one["kind"] == "evaluation"][-1]
    images = json.loads((run / "config.json").read_text())["data"]["validation"]
    low, high = wilson_interval(round(last["top1"] * images), images)
    assert f"top-1 {last['top1']:.1%} (95% interval {low:.1%} to {high:.1%}) on {images} held-out images" in text
    assert "- handed over: the last" in text and "- best" in text and str(run) not in text
    assert f"at step {last['step']}, on {images} held-out images" in text
    metric = card["model-index"][0]["results"][0]["metrics"][0]
    assert (metric["type"], metric["value"]) == ("accuracy", round(last["top1"], 4))
    for word in (
        "`small`",
        "starting from random weights",
        'vitreous.load("me/atoms")',
        "## Limits",
        *load_model(run).classes,
    ):
        assert word in text
    assert ModelCard(text).data.license == "cc-by-4.0"


@pytest.mark.slow
def test_the_card_of_a_cross_validation_has_what_it_came_to(hub: Hub, token: None, tmp_path: Path) -> None:
    settings = {**QUICK, "export": "last", "preprocess": {"crop": 1.0}}
    out = tmp_path / "folds"
    vitreous.train("digits", recipe="small", model="mu/4", settings=settings, folds=2, out=out)
    text = vitreous.push_to_hub(out, "me/digits").card
    found = json.loads((out / "folds.json").read_text())["pooled"]
    said = f"top-1 {found['right'] / 1797:.1%} (95% interval {found['low']:.1%} to {found['high']:.1%}) on 1,797 images"
    assert f"{said}, each predicted by a model that had not seen it (2 folds)" in text
    assert "on 1,797 images of 'digits'" in text


def test_places_of_this_machine_stay_here(hub: Hub, token: None, tmp_path: Path) -> None:
    folder = small_model()
    origin = {
        "recipe": "finetune",
        "data": str(tmp_path / "patients"),
        "weights": "/home" + "/me/secret/vit.npz",
        "epochs": 3.0,
    }
    save_model(tmp_path / "model", type(folder)(**{**vars(folder), "origin": origin}))
    vitreous.push_to_hub(tmp_path / "model", "me/x")
    sent = b"".join(hub.repositories["me/x"].files[name] for name in ("README.md", "config.json")).decode()
    assert str(tmp_path) not in sent and "secret" not in sent
    assert "patients" in sent and "vit.npz" in sent
    assert "license:" not in sent


def test_what_it_started_from_is_said_with_its_licence(hub: Hub, token: None) -> None:
    folder = small_model()
    weights = "facebook/dinov3-vits16-pretrain-lvd1689m@" + 40 * "a"
    folder = type(folder)(**{**vars(folder), "origin": {"recipe": "finetune", "data": "photos", "weights": weights}})
    text = vitreous.push_to_hub(folder, "me/x").card
    assert f"starting from the weights {weights} (licence dinov3-license, whose terms go on)" in text
    assert yaml.safe_load(text.split("---")[1])["base_model"] == "facebook/dinov3-vits16-pretrain-lvd1689m"


def test_what_is_there_is_not_replaced_unasked(hub: Hub, token: None) -> None:
    vitreous.push_to_hub(small_model(), "me/x")
    before = hub.repositories["me/x"].newest
    with pytest.raises(
        CheckpointError, match="me/x on the Hub already holds weights; choose another name, or add --overwrite"
    ):
        vitreous.push_to_hub(small_model(), "me/x")
    assert hub.repositories["me/x"].newest == before
    made = vitreous.push_to_hub(small_model(), "me/x", licence="mit", overwrite=True)
    assert len(hub.repositories["me/x"].commits) == 3 and made.commit != before


def test_refusals_are_one_line_and_nothing_is_made(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(said: str, name: str = "me/x", kind: type[Exception] = CheckpointError) -> None:
        with pytest.raises(kind, match=said) as caught:
            vitreous.push_to_hub(small_model(), name)
        assert "\n" not in str(caught.value)

    refused("to push to me/x, give a token that may write: HF_TOKEN=")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("the Hub refuses your token for me/x")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    refused(r"your token may not do this with me/x \(403\)")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    for name in ("x", "me/x@main", "a/b/c", "me/..x--"):
        refused("can't push to .*; give owner/name|it can't be a name on the Hub", name)
    hub.refuses_uploads = 507
    refused("the Hub answers 507 for me/x; try again later", kind=DownloadFailed)
    hub.repositories.clear()
    hub.status = 429
    refused("limits the number of requests", kind=DownloadFailed)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("me/x can't be pushed: the Hub can't be reached at http://127.0.0.1:9")
    assert hub.repositories == {}


def test_the_command_pushes(hub: Hub, token: None, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "me/atoms", "--private"]) == 0
    printed = capfd.readouterr().out
    for word in (
        f"pushed      {hub.url}/me/atoms",
        "licence  none stated",
        "next: vitreous predict me/atoms IMAGES...",
    ):
        assert word in printed
    assert main(["push", str(run), "me/atoms"]) == 2
    assert "vitreous: error: me/atoms on the Hub already holds weights" in capfd.readouterr().err
    assert main(["push", "nowhere", "me/other"]) == 2


def _reporter(heard: Heard) -> object:
    heard.evaluation = lambda step, numbers, best: None  # type: ignore[attr-defined]
    heard.close = lambda: None  # type: ignore[attr-defined]
    return heard
