"""The command as a process of its own: an end that leaves nobody without an answer, and processes that come back."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from tests.serving.conftest import draw_image

pytestmark = pytest.mark.slow
PNG, KIND = draw_image(1), {"Content-Type": "image/png"}


@contextmanager
def served(log, *arguments):
    """Run `vitreous serve` on a free port, which it tells, and its log in a file; yield its address and the process."""
    command = [sys.executable, "-m", "vitreous", "serve", *map(str, arguments), "--port", "0"]
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file)
    try:
        deadline = time.monotonic() + 120
        while not (told := re.search(r"serving at +(http://127.0.0.1:\d+) ", log.read_text())) or not is_ready(told[1]):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        url = told[1]
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def is_ready(url):
    try:
        return httpx.get(url + "/readyz", verify=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_under_load_leaves_no_accepted_request_unanswered(folder, tmp_path, processes):
    """A connection that the system took and the service didn't is reset, and an idle one is closed: what is sent there then was not
    accepted, and the log knows nothing of it."""
    answered, refused, broken, stopping = [], [], [], threading.Event()

    def load(url):
        with httpx.Client(base_url=url, verify=False, timeout=60) as client:
            while not stopping.is_set():
                try:
                    answered.append(client.post("/v1/predict", content=PNG, headers=KIND).status_code)
                except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError) as error:  # it accepts no more
                    return refused.append(error)
                except httpx.HTTPError as error:
                    return broken.append(error)

    with served(tmp_path / "log", folder, "--processes", processes) as (url, process):
        threads = [threading.Thread(target=load, args=(url,)) for _ in range(8)]
        for one in threads:
            one.start()
        time.sleep(3)
        for _ in range(2):  # a second one changes nothing
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert process.wait(60) == 0
        stopping.set()
        for one in threads:
            one.join()
    assert not broken and set(answered) == {200} and len(answered) > 50 and len(refused) == 8, (broken, set(answered))
    noted = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if '"request"' in line]
    assert [one["status"] for one in noted if one["route"] == "/v1/predict"] == [200] * len(answered)


def children(pid):
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(pid), "-o", "pid=,args="], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


def test_a_killed_process_comes_back_while_the_other_goes_on(folder, tmp_path):
    with served(tmp_path / "log", folder, "--processes", 2) as (url, process):
        deadline = time.monotonic() + 120
        while len(children(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(8)
        first = children(process.pid)
        os.kill(first[0], signal.SIGKILL)
        good = bad = 0
        while len(set(children(process.pid)) - {first[0]}) < 2 or good < 20:
            assert time.monotonic() < deadline
            try:
                good += (
                    httpx.post(url + "/v1/predict", content=PNG, headers=KIND, verify=False, timeout=30).status_code
                    == 200
                )
            except httpx.HTTPError:
                bad += 1
        assert bad <= 1 and first[1] in children(process.pid)
        text = httpx.get(url + "/metrics", verify=False).text
        total = sum(
            float(one) for one in re.findall(r"^vitreous_requests_total{.*predict.*} (.*)$", text, re.MULTILINE)
        )
        assert total >= good


@pytest.mark.parametrize("broken", ["none", "weights"])
def test_the_first_process_fails_in_one_line_and_no_other_is_started(folder, tmp_path, broken):
    place = tmp_path / "model"
    if broken != "none":
        shutil.copytree(folder, place)
        (place / "model.safetensors").write_bytes(b"broken")
    command = [sys.executable, "-m", "vitreous", "serve", str(place), "--processes", "2", "--port", "0", "--no-log"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("serving at")]
    assert len(lines) == 1 and lines[0].startswith("vitreous: error: ") and str(place) in lines[0], done.stderr


def test_processes_end_with_a_supervisor_that_is_killed(folder, tmp_path):
    with served(tmp_path / "log", folder, "--processes", 2) as (url, process):
        process.kill()
        process.wait(60)
        deadline = time.monotonic() + 30
        while is_ready(url):
            assert time.monotonic() < deadline
            time.sleep(0.1)
