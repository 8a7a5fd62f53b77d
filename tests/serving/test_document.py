"""docs/serving.md, executed: its curl, its Python and its JavaScript, against a service of small images."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving.conftest import CLASSES, draw_image

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def here(tmp_path, monkeypatch):
    for number, name in enumerate(("photo.jpg", "a.jpg", "b.jpg")):
        (tmp_path / name).write_bytes(draw_image(number, "JPEG"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(language, url):
    return [
        code.replace(ADDRESS, url)
        for code in re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    ]


def test_curl(service, here):
    (code,) = blocks("console", service.url)
    lines = code.splitlines()
    assert len(lines) == 5
    for line in lines:
        done = subprocess.run(
            line.replace("curl ", "curl -sS -f ", 1), shell=True, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (line, done.stderr)
        assert "map.png" in line or json.loads(done.stdout)
    assert (here / "map.png").read_bytes().startswith(b"\x89PNG")


def test_python(service, here):
    (code,) = blocks("python", service.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in CLASSES, done.stderr


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_javascript(service, here):
    (code,) = blocks("javascript", service.url)
    before = 'const file = new File([require("fs").readFileSync("photo.jpg")], "photo.jpg");\n'
    script = f"(async () => {{\n{before}{code}}})();"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in CLASSES, done.stderr


