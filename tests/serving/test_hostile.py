"""Thousands of bad requests, from a seed: each is answered or given up in time, none with a failure, and nothing is left behind.

The quick share runs always; all ten thousand on request (-m slow), at a service of its own whose memory is watched.
"""

import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.serving.attacks import GOOD, draw_attack
from tests.serving.test_processes import served

import vitreous
from vitreous.engines.joined_blocks import WORTH
from vitreous.engines.selection import SETTLED

LIMITS = {"read_timeout": 0.5, "max_body": 200_000, "max_images": 4}
SILENT = {"left", "stalled", "head", "chunks"}
"""What may be given up without an answer: who has gone, or has not even sent whole headers."""


def attack(url, numbers, threads=16):
    """Send requests, several at once; return them. Raises TimeoutError if one is neither answered nor given up."""
    place = urlsplit(url)

    def send(number):
        one = draw_attack(7, number)
        one.send(place.hostname, place.port, patience=60)
        return one

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(send, numbers))


def check(found, first=0):
    for number, one in enumerate(found, first):
        assert one.status < 500 or one.status == 503, (number, one)
        assert one.status or one.kind in SILENT, (number, one)
        assert b"x-injected" not in one.said.lower().partition(b"\r\n\r\n")[0], (number, one)
        if one.status >= 400 and b"\r\n\r\n" in one.said and not one.pieces[0][0].startswith(b"HEAD"):
            assert b"application/problem+json" in one.said and b"Traceback" not in one.said, (number, one)
            assert b"/etc/" not in one.said.partition(b"\r\n\r\n")[2].replace(b"etc/passwd", b""), (number, one)


def predict(url):
    answer = httpx.post(
        url + "/v1/predict", content=GOOD[0], headers={"Content-Type": "image/png"}, verify=False, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_a_share_of_the_bad_requests(folder, headless):
    with vitreous.serve({"animals": folder, "headless": headless}, port=0, limits=LIMITS) as service:
        before = [predict(service.url) for _ in range(SETTLED + 1)][-1]  # the last one by packed weights
        found = attack(service.url, range(100))
        check(found)
        assert len({one.kind for one in found}) == 11
        assert {200, 400, 408, 415, 422} <= {one.status for one in found}
        assert predict(service.url) == before


def memory(pid):
    listed = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(listed.stdout) / 1024


def count_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
def test_ten_thousand_bad_requests_leave_nothing_behind(folder, headless, tmp_path):
    options = [word for name, most in LIMITS.items() for word in (f"--{name.replace('_', '-')}", most)]
    with served(tmp_path / "log", f"animals={folder}", f"headless={headless}", "--no-log", *options) as (url, process):
        before = [predict(url) for _ in range(SETTLED + WORTH + 1)][-1]  # the last one by a graph of all blocks
        check(attack(url, range(4_000)))
        warm, files = memory(process.pid), count_files(process.pid)
        found = attack(url, range(4_000, 10_000))
        check(found, 4_000)
        print(
            Counter(one.status for one in found),
            f"{memory(process.pid) - warm:+.1f} MiB, longest {max(one.took for one in found):.1f} s",
        )
        assert memory(process.pid) - warm < 20
        assert count_files(process.pid) <= files + 2
        assert predict(url) == before
    assert "bug" not in (tmp_path / "log").read_text()
