"""Every command takes every kind of model: trained by it, measured, looked into, written for others and served."""

import json
import re
import shutil

import httpx
import pytest
from tests.cli.conftest import TINY
from tests.deploy.conftest import traceable
from tests.support.pictures import write

import vitreous as package

KINDS = {
    "ViT": ("mu/4", (), "timm"),
    "DeiT": ("mu/4", ("--model.distillation-token", "--model.class-token", "--model.pool=class"), "huggingface"),
    "hybrid": ("R+mu/2", ("--image=16", "16", "--model.stem.width=1"), "google"),
    "ResNet": ("R10x1", ("--model.root-channels=8", "--model.groups=4", "--model.units", "1", "1"), ""),
    "EfficientNet": (
        "EfficientNet-B0",
        (
            *("--model.root-channels=8", "--model.last-channels=320", "--model.widths", "4", "6", "10", "20", "28", "48", "80"),
            *("--model.units", *"1111111", "--model.strides", *"1222121"),
        ),
        "huggingface-efficientnet",
    ),
    "Swin": (
        "Swin-T",
        ("--model.width=8", "--model.depths", "1", "2", "--model.heads", "1", "2", "--model.windows", "4", "4", "2", "2"),
        "timm-swin",
    ),
    "SwinV2": (
        "SwinV2-T",
        ("--model.width=8", "--model.depths", "1", "2", "--model.heads", "1", "2", "--model.windows", "4", "4", "4", "4"),
        "huggingface-swin",
    ),
}  # fmt: skip
"""Name, settings that make it tiny, and a format of others that can hold it."""
MAPS = {"ResNet": "grad-cam", "EfficientNet": "grad-cam", "Swin": "grad-cam", "SwinV2": "grad-cam"}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow) if kind in ("DeiT", "hybrid", "SwinV2", "EfficientNet") else kind
        for kind in KINDS
    ],
)
def test_every_command(kind, vitreous, here):
    name, settings, to = KINDS[kind]
    given = [one for one in TINY if not one.startswith("--model=")]
    vitreous("train", "digits", "--recipe=small", "--out=run", f"--model={name}", *given, *settings).worked("finished")
    vitreous("resume", "run").worked()
    for image in ("a.png", "b.png", "c.png"):
        write(here / "images" / image)
    vitreous("evaluate", "run").worked("accuracy")
    vitreous("inspect", "run/model").worked("parameters", "GFLOPs")
    vitreous("report", "run").worked()
    rows = vitreous("predict", "run", "images", "--format=jsonl").worked().splitlines()
    assert len(rows) == 3 and not any(json.loads(row).get("error") for row in rows)
    vitreous("explain", "run", "images", "--out=explained", "--faithful=1").worked(MAPS.get(kind, "relevance"))
    page = (here / "explained" / "index.html").read_text()
    assert ("How far heads look" in page) == (kind not in ("ResNet", "EfficientNet"))
    vitreous("embed", "run", "images", "--out=f.npz").worked("3 vectors")
    vitreous("similar", "a.png", "--in=f.npz", "--top=1").worked(".png")
    vitreous("cka", "run", "run", "digits", "--images=40", "--out=cka").worked()
    vitreous("convert", "run", "ours").worked("largest difference 0.0e+00")
    if to:
        said = vitreous("convert", "run", "theirs", f"--to={to}").worked("largest difference")
        assert float(re.search(r"difference (\S+) ", said)[1]) < 1e-9, said
        done = vitreous("predict", "theirs", "images", "--format=jsonl")
        assert (done.code, done.out.count("\n")) == (0, 3), done


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_exported_quantised_and_served(kind, command, here):
    name, settings, _ = KINDS[kind]
    given = [one for one in TINY if not one.startswith("--model=")]
    command("train", "digits", "--recipe=small", "--out=run", f"--model={name}", *given, *settings).worked("finished")
    write(here / "a.png")
    for to in ("onnx", "openvino", "torch"):
        with traceable():
            command("export", "run", f"--to={to}", f"--out={to}").worked()
    expected = package.load("run")("a.png").label
    for to in ("onnx", "openvino"):
        assert package.load(to)("a.png").label == expected
        shutil.rmtree(to)
    with traceable():
        command("quantise", "run", "digits", "--out=int8", "--most-lost=100").worked()
    with package.serve({"digits": "run"}, port=0) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        files = {"images": ("a.png", (here / "a.png").read_bytes(), "image/png")}
        assert client.post("/v1/predict", files=files).status_code == 200
        assert client.post("/v1/explain", files=files).status_code == 200
