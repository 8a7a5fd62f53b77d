"""Files of a model that are cut short while it is served."""

import subprocess
import sys

import pytest
from tests.deploy.conftest import traceable
from tests.serving.conftest import draw_image, write_model

import vitreous

CUT_SHORT = """
import sys, time
from pathlib import Path
import httpx
import vitreous

place, image = Path(sys.argv[1]), Path(sys.argv[2])
with vitreous.serve(place, port=0, limits={"reload_every": 0.05}) as service:
    def ask(name="v1/predict"):
        return httpx.post(f"{service.url}/{name}", files={"images": image.read_bytes()}, timeout=60).json()
    before = ask()["predictions"]
    for file in place.iterdir():
        file.write_bytes(b"")
    while httpx.get(f"{service.url}/v1/models").json()["models"][0]["failure"] is None:
        time.sleep(0.02)
    for _ in range(3):
        assert ask()["predictions"] == before
    ask("v1/embed")
"""


@pytest.mark.parametrize("target", ["none", "openvino", "onnx"])
def test_files_that_are_cut_short_while_they_are_served(target, tmp_path):
    """Pages of a mapped file that are gone end a process, which no handler can keep from it."""
    place = write_model(tmp_path / "animals")
    if target != "none":
        pytest.importorskip(target)
        with traceable():
            vitreous.export(place, target, tmp_path / "exported", progress=False)
        place = tmp_path / "exported"
    (tmp_path / "a.png").write_bytes(draw_image(0))
    work = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, place, tmp_path / "a.png"], capture_output=True, text=True, check=False
    )
    assert work.returncode == 0, work.stderr
