"""docs/serving.md, executed: its curl, its Python and its JavaScript, against a service of small images."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.serving.conftest import CLASSES, draw_image
from tests.support.training import TINY

from vitreous.cli.options.runs import Board
from vitreous.cli.options.serving import Serve
from vitreous.cli.parse import parse
from vitreous.cli.translate import translate_arguments
from vitreous.training.run import train

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


def commands(document):
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    found = [
        line
        for code in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for line in code.splitlines()
    ]
    return [line for line in found if line.startswith("vitreous ")]


COMMANDS = [*commands("serving.md"), *commands("board.md")]


@pytest.mark.parametrize("line", COMMANDS)
def test_what_is_typed_is_understood(line):
    command, *arguments = shlex.split(line)[1:]
    kind = {"serve": Serve, "board": Board}[command]
    found = parse(kind, translate_arguments(command, arguments), command)
    assert getattr(found, "models", None) or found.runs == "runs"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(TINY, tmp_path_factory.mktemp("trained") / "run").run


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_what_is_typed_serves(run, tmp_path, line):
    """Each command of the documents as it stands there, but for the port, in a folder with two runs and a file of keys."""
    for name in ("photos-1", "flowers-1"):
        shutil.copytree(run, tmp_path / "runs" / name)
    (tmp_path / "keys").write_text("a-key-of-more-than-16-characters\n")
    (tmp_path / "keys").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = shlex.split(line)
    if "--port" in words:
        del words[words.index("--port") : words.index("--port") + 2]
    command = [sys.executable, "-m", "vitreous", *words[1:], "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = httpx.get(
                    f"http://127.0.0.1:{port}/" + ("readyz" if "serve" in words else ""), trust_env=False
                )
                if answer.status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        if "--keys" in words:
            assert httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).status_code == 401
        if "serve" not in words:
            assert "Runs in runs" in answer.text
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
