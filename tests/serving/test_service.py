"""The service around the models: keys, queues, time limits, models that change, and what is refused before it starts."""

import contextlib
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from tests.serving.conftest import draw_image, refused, write_model

import vitreous
from vitreous.api.serving import name_sources
from vitreous.cli.main import main
from vitreous.engines.selection import SETTLED
from vitreous.errors import CheckpointError, ConfigError
from vitreous.predictor import Predictor
from vitreous.serving.sockets import format_url, listen

PNG, KIND = draw_image(1), {"Content-Type": "image/png"}
KEY = "a-key-of-more-than-16-characters"


def ask(url, address="/v1/predict", **how):
    return httpx.post(url + address, content=PNG, headers=KIND, verify=False, timeout=60, **how)


@pytest.fixture
def pause(monkeypatch):
    """Return a list whose first value is how long each pass takes more, in seconds."""
    compute, seconds = Predictor.probabilities, [0.0]

    def slow(self, pixels):
        time.sleep(seconds[0])
        return compute(self, pixels)

    monkeypatch.setattr(Predictor, "probabilities", slow)
    return seconds


def test_keys(folder):
    with vitreous.serve(folder, port=0, keys=[KEY, KEY[::-1]]) as service:
        for headers in ({}, {"X-API-Key": KEY + "x"}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": "\xe9"}):
            answer = httpx.get(
                service.url + "/v1/models", headers=[(k, v.encode("latin-1")) for k, v in headers.items()], verify=False
            )
            refused(answer, 401, "unauthorized", "X-API-Key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"X-API-Key": KEY}, {"Authorization": f"bearer {KEY[::-1]}"}):
            assert httpx.get(service.url + "/v1/models", headers=headers, verify=False).status_code == 200
        refused(httpx.get(service.url + "/metrics", verify=False), 401, "unauthorized")
        for address in ("/healthz", "/readyz", "/", "/openapi.json"):
            assert httpx.get(service.url + address, verify=False).status_code == 200, address


@pytest.mark.parametrize(
    ("mode", "text", "words"),
    [
        (0o604, KEY, "chmod 600"),
        (0o600, "# none\n", "holds no key"),
        (0o600, "short", "too short"),
        (0o600, None, "can't read"),
    ],
)
def test_a_key_file_is_refused_before_anything_is_loaded(tmp_path, capfd, mode, text, words):
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    assert main(["serve", "nowhere", "--keys", str(path)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert sum(line.startswith("vitreous: error: ") for line in lines) == 1 and words in lines[-1], lines


def test_a_taken_port_an_unknown_model_and_an_unknown_address_are_one_line_each(folder, tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, words in (
            (["serve", str(folder), "--port", str(port)], f"port {port} on 127.0.0.1 is in use"),
            (["serve", str(tmp_path / "none"), "--port", "0"], "no such model folder"),
            (["serve", str(folder), "--host", "no.such.host.invalid", "--port", "0"], "no.such.host.invalid"),
            (["serve", str(folder), str(folder)], "two models are called"),
            (["serve", f"pets={folder}", f"pets={tmp_path}"], "two models are called 'pets'"),
            (["serve", f"pets={tmp_path / 'none'}", "batch=4", "--port", "0"], "no such model folder"),
            (["serve", f"pets={folder}", "queue=0"], "at least 1"),
            (["serve", str(folder), "--queue", "0"], "at least 1"),
            (["serve", str(folder), "--allow-origin", "example.com"], "origin"),
            (["serve", str(folder), "--allow-origin", "https://example.com", "queue=0"], "at least 1"),
            (["serve", str(folder), "--timeout", "inf"], "timeout is inf; it must be a number, at least 0.001"),
            (["serve", str(folder), "--max-body", "-" + "9" * 400], "at least 1024"),
            (
                ["serve", str(folder), "--host", "a..b", "--port", "0"],
                "can't listen on 'a..b': no host has such a name",
            ),
        ):
            assert main(arguments) == 2, arguments
            lines = capfd.readouterr().err.splitlines()
            assert len(lines) == 1 and lines[0].startswith("vitreous: ") and words in lines[0], lines


def test_in_python_a_model_that_cant_be_loaded_raises(tmp_path):
    with pytest.raises(CheckpointError, match="no such model folder"):
        vitreous.serve(tmp_path / "none", port=0)
    with pytest.raises(ConfigError, match="block=True"):
        vitreous.serve(tmp_path, port=0, processes=2)


def together(count, work):
    found = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found


def test_what_the_queue_cant_hold_is_refused_at_once(folder, pause):
    with vitreous.serve(folder, port=0, queue=2, batch=1, limits={"max_images": 2}) as service:
        pause[0] = 0.3
        answers = together(6, lambda: ask(service.url))
        assert sorted({one.status_code for one in answers}) == [200, 429]
        assert sum(one.status_code == 200 for one in answers) >= 2
        late = next(one for one in answers if one.status_code == 429)
        refused(late, 429, "queue-full", "queue holds 2")
        assert int(late.headers["retry-after"]) >= 1
        pause[0] = 0.0
        assert ask(service.url).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(folder, pause):
    with vitreous.serve(folder, port=0, timeout=0.2) as service:
        pause[0] = 1.0
        refused(ask(service.url), 503, "timed-out", "0.2 s")
        pause[0] = 0.0
        time.sleep(1)
        assert ask(service.url).status_code == 200


def test_who_leaves_takes_his_images_along(folder, pause):
    with vitreous.serve(folder, port=0, batch=1) as service:
        pause[0] = 0.4
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(service.url + "/v1/predict", content=PNG, headers=KIND, verify=False, timeout=0.15)
        deadline = time.monotonic() + 5
        while 'vitreous_queue_images{model="animals"} 0.0' not in (
            said := httpx.get(service.url + "/metrics", verify=False).text
        ):
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        assert 'kind="client-left"' in said


def test_slow_bodies_and_slow_headers_are_given_up(folder):
    with vitreous.serve(folder, port=0, limits={"read_timeout": 0.3}) as service:
        port = int(service.url.rpartition(":")[2])
        for begun, expected in (
            (
                b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nab",
                b"slow-request",
            ),
            (b"POST /v1/predict HTTP/1.1\r\nHost: ", b""),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sent:
                sent.sendall(begun)
                said = b""
                while part := sent.recv(4096):
                    said += part
            assert expected in said and bool(said) == bool(expected)


NEVER_ENDING = (
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", b"a"),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    (b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    (b"POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    (b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    (b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
)
"""How requests begin, and what of their bodies comes now and then."""


def is_given_up(port, begun, piece):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sent:
        sent.sendall(begun)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < began + 8:
                sent.sendall(piece)
                time.sleep(0.05)
            return False
    return True


def test_bodies_that_never_end_do(folder):
    """Nobody holds a connection by sending a little of a body now and then, whether the body is read or not."""
    with vitreous.serve(folder, port=0, limits={"read_timeout": 0.3}) as service, ThreadPoolExecutor(8) as pool:
        port = int(service.url.rpartition(":")[2])
        ended = list(pool.map(lambda one: is_given_up(port, *one), NEVER_ENDING))
    assert [one for one, has_ended in zip(NEVER_ENDING, ended, strict=True) if not has_ended] == []


def test_requests_that_are_sent_together_are_answered_in_their_order(client, service):
    asked = b"POST /v1/%b?model=animals HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: %d\r\n%b\r\n"
    places = ("embed", "predict", "nothing", "predict", "embed")
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=20) as sent:
        for number, place in enumerate(places):
            end = b"Connection: close\r\n" if number == len(places) - 1 else b""
            sent.sendall(asked % (place.encode(), len(PNG), end) + PNG)
        said = b""
        while part := sent.recv(65536):
            said += part
    found = re.findall(rb'HTTP/1.1 (\d+)|"(embeddings|predictions)"', said)
    kinds = {"embed": "embeddings", "predict": "predictions"}
    assert [b"".join(one).decode() for one in found] == [
        one for place in places for one in (("200", kinds[place]) if place in kinds else ("404",))
    ]


def test_half_open_connections_keep_nobody_from_an_answer(folder, pause, monkeypatch):
    """Where there are too many, those that have waited longest for a request make room; requests under way are answered."""
    monkeypatch.setattr("vitreous.serving.server.count_connections", lambda: 20)
    with vitreous.serve(folder, port=0) as service, contextlib.ExitStack() as stack:
        place = ("127.0.0.1", int(service.url.rpartition(":")[2]))
        pause[0], early = 1.0, []
        asking = threading.Thread(target=lambda: early.append(ask(service.url).status_code))
        asking.start()
        time.sleep(0.3)
        opened = [stack.enter_context(socket.create_connection(place, timeout=5)) for _ in range(60)]
        for one in opened:
            with contextlib.suppress(OSError):
                one.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        assert ask(service.url).status_code == 200 and time.monotonic() - began < 9
        asking.join()
        assert early == [200]
        with contextlib.suppress(ConnectionResetError):
            assert opened[0].recv(1) == b""
        opened[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            opened[-1].recv(1)


def test_the_files_that_are_allowed_are_used():
    resource = pytest.importorskip("resource")
    code = (
        "import resource; from vitreous.serving.sockets import *; print(count_connections()); raise_file_limit();"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], count_connections())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4000)),
    ).stdout  # fmt: skip
    assert told.split() == ["128", "4000", "2000"]


def test_the_address_is_that_of_the_socket():
    for host, said in (("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:"), ("[::1]", "http://[::1]:")):
        with listen(host, 0) as listening:
            assert format_url(host, listening) == said + str(listening.getsockname()[1])


def test_what_is_no_http_is_a_problem_too(client, service):
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10) as sent:
        sent.sendall(b"nonsense\r\n\r\n")
        said = b""
        while part := sent.recv(4096):
            said += part
    assert said.startswith(b"HTTP/1.1 400") and b"application/problem+json" in said and b'"/problems/malformed"' in said


@pytest.mark.parametrize(("timeout", "read_timeout"), [(30.0, 0.5), (0.5, 30.0)])
def test_who_reads_no_answer_is_let_go(folder, monkeypatch, timeout, read_timeout):
    """Their connections, none of which waits for a request, are all that the service can hold."""
    monkeypatch.setattr("vitreous.serving.server.count_connections", lambda: 4)
    limits = {"timeout": timeout, "read_timeout": read_timeout}
    bugs, handler = [], logging.Handler(logging.ERROR)
    handler.emit = bugs.append
    with vitreous.serve(folder, port=0, limits=limits) as service, contextlib.ExitStack() as open_ones:
        for name in ("uvicorn.error", "vitreous.serving"):
            logging.getLogger(name).addHandler(handler)
            open_ones.callback(logging.getLogger(name).removeHandler, handler)
        for _ in range(4):
            sent = open_ones.enter_context(socket.socket())
            sent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sent.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
            sent.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 300)
        time.sleep(0.3)
        deadline, status = time.monotonic() + 15, 0
        while status != 200:
            assert time.monotonic() < deadline
            with contextlib.suppress(httpx.HTTPError):
                status = httpx.get(service.url + "/healthz", verify=False).status_code
            time.sleep(0.05)
    assert not bugs


def test_an_open_model_is_served_as_it_is(tmp_path):
    """Limits of the service are not the caller's, and its files are not watched."""
    place = write_model(tmp_path / "animals")
    model = vitreous.load(place)
    before = model.folder.decode
    with vitreous.serve(model, port=0, limits={"reload_every": 0.05, "max_pixels": 1_000_000}) as service:
        first = ask(service.url).json()
        assert model.folder.decode == before
        write_model(tmp_path / "other", seed=5)
        for file in ("model.safetensors", "config.json"):
            (tmp_path / "other" / file).replace(place / file)
        time.sleep(0.5)
        assert ask(service.url).json()["predictions"] == first["predictions"]
        (told,) = httpx.get(service.url + "/v1/models", verify=False).json()["models"]
        assert told["version"] == 1


def test_a_changed_model_answers_once_it_is_warm_and_a_broken_one_never(tmp_path):
    place = write_model(tmp_path / "animals")
    with vitreous.serve(place, port=0, limits={"reload_every": 0.1}) as service:

        def state(until):
            deadline = time.monotonic() + 20
            while not until(found := httpx.get(service.url + "/v1/models", verify=False).json()["models"][0]):
                assert ask(service.url).status_code == 200 and time.monotonic() < deadline, found
                time.sleep(0.05)
            return found

        before = ask(service.url).json()
        write_model(place, seed=1)
        state(lambda found: found["version"] == 2)
        after = [ask(service.url).json() for _ in range(SETTLED + 1)][-1]  # the last one by packed weights
        assert (before["version"], after["version"]) == (1, 2)
        right = vitreous.load(place)(PNG)
        np.testing.assert_allclose(after["predictions"][0]["score"], right.score, atol=1e-6)
        weights = place / "model.safetensors"
        weights.replace(tmp_path / "whole")
        weights.write_bytes(b"broken")
        assert "can't be served" in state(lambda found: found["failure"])["failure"]
        assert ask(service.url).json()["predictions"] == after["predictions"]
        (tmp_path / "whole").replace(weights)
        assert state(lambda found: found["failure"] is None)["version"] == 3


def test_the_inside_has_the_limits_of_every_answer(folder, monkeypatch):
    from vitreous.serving import page_contents

    look, go_on = page_contents.gather_contents, threading.Event()
    monkeypatch.setattr(page_contents, "gather_contents", lambda *given: (go_on.wait(60), look(*given))[1])
    with vitreous.serve(folder, port=0, timeout=1.5, queue=1, limits={"max_images": 1}) as service:
        answers = together(3, lambda: ask(service.url, "/v1/inside"))
        kinds = [one.json()["type"] for one in answers]
        assert sorted(kinds) == ["/problems/queue-full"] * 2 + ["/problems/timed-out"], kinds
        go_on.set()
        deadline = time.monotonic() + 60
        while ask(service.url, "/v1/inside").status_code != 200:  # the one that was given up is still being looked into
            assert time.monotonic() < deadline
        counted = httpx.get(service.url + "/metrics", verify=False).text
        assert 'vitreous_images_total{model="animals",route="/v1/inside"} 1.0' in counted


def test_a_model_is_named_the_same_way_everywhere(folder, tmp_path, monkeypatch):
    (one,) = name_sources(f"pets={folder}", {})
    assert (one.name, one.path) == ("pets", str(folder))
    assert [one.name for one in name_sources([folder, f"b.2={folder}"], {})] == ["animals", "b.2"]
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "lr=0.1")
    with pytest.raises(ConfigError, match=r"NAME=lr=0.1"):  # such a folder is there, and its name is none of a model's
        name_sources(["lr=0.1"], {})
    assert name_sources({"rate": "lr=0.1"}, {})[0].path == "lr=0.1"


def test_answers_are_sent_at_once(folder):
    """Without TCP_NODELAY an answer's last piece waits 40 ms and more for the client's system, on connections that are kept."""
    with vitreous.serve(folder, port=0, wait_ms=0) as service, httpx.Client(verify=False) as client:
        took = []
        for _ in range(12):
            began = time.monotonic()
            answer = client.post(service.url + "/v1/predict", content=PNG, headers=KIND).raise_for_status()
            took.append(time.monotonic() - began - answer.json()["timings"]["total_ms"] / 1000)
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
    assert min(took[2:]) < 0.04, took
