"""examples/serving: what can be run here is run, in front of a real service; the rest is held to the command that it starts."""

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from tests.serving.conftest import draw_image, refused

import vitreous
from vitreous.api.serving import KEYS_VARIABLE
from vitreous.cli.options.serving import Serve
from vitreous.cli.parse import parse
from vitreous.cli.translate import translate_arguments

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "serving"
KEY = "a-key-of-more-than-16-characters"
PNG = draw_image(1)


def read(name):
    return list(yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")))


def find_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def running(*command):
    """Run a program; end it afterwards."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def wait_for(ask, seconds=30):
    """Return an answer once there is one that isn't false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := ask():
                return found
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def guarded(folder):
    with vitreous.serve(folder, port=0, keys=[KEY]) as service:
        yield service


@pytest.mark.skipif(not all(map(shutil.which, ("nginx", "openssl"))), reason="needs nginx and openssl")
def test_the_reverse_proxy(guarded, tmp_path):
    port, made = find_port(), tmp_path / "certificates"
    made.mkdir()
    subprocess.run(
        shlex.split("openssl req -x509 -newkey rsa:2048 -nodes -keyout privkey.pem -out fullchain.pem -days 1 -subj /CN=localhost"),
        cwd=made, check=True, capture_output=True,
    )  # fmt: skip
    text = (EXAMPLES / "nginx.conf").read_text()
    for old, new in (("/etc/nginx/certificates", str(made)), ("listen 443", f"listen 127.0.0.1:{port}"), ("http://vitreous:8000", guarded.url)):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    kept = " ".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {kept}\n{text}}}"
    )
    whole = ssl.create_default_context()
    whole.check_hostname, whole.verify_mode = False, ssl.CERT_NONE
    with (
        running("nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")) as process,
        httpx.Client(
            base_url=f"https://127.0.0.1:{port}", verify=whole, headers={"X-API-Key": KEY}, timeout=60
        ) as client,
    ):
        wait_for(lambda: client.get("/readyz").status_code == 200 or process.poll())
        answer = client.post("/v1/predict", files={"images": ("a.png", PNG)})
        assert answer.status_code == 200 and re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])  # nginx' own
        assert client.get("/metrics").status_code == 404
        refused(client.post("/v1/predict", content=PNG, headers={"X-API-Key": "no"}), 401, "unauthorized")
        assert (
            client.post("/v1/predict", content=b"x" * (33 << 20), headers={"Content-Type": "image/png"}).status_code
            == 413
        )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
def test_prometheus_reads_the_measurements(guarded, tmp_path):
    port, text = find_port(), (EXAMPLES / "prometheus.yaml").read_text()
    (tmp_path / "key").write_text(KEY)
    for old, new in (("/run/secrets/prometheus_key", str(tmp_path / "key")), ("vitreous:8000", guarded.url.removeprefix("http://")), ("15s", "1s")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "prometheus.yaml").write_text(text)
    httpx.post(
        guarded.url + "/v1/predict", content=PNG, headers={"X-API-Key": KEY, "Content-Type": "image/png"}, verify=False
    )
    where = f"127.0.0.1:{port}"
    command = (
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={where}",
    )
    with running("prometheus", *command):
        asked = {"query": 'sum(vitreous_requests_total{route="/v1/predict",status="200"})'}
        found = wait_for(
            lambda: httpx.get(f"http://{where}/api/v1/query", params=asked, trust_env=False).json()["data"]["result"]
        )
    assert float(found[0]["value"][1]) >= 1


def options_of(arguments):
    """Return the options that a container's arguments come to; raises what the command would say."""
    assert arguments[0] == "serve"
    return parse(Serve, translate_arguments("serve", arguments[1:]), "serve")


def test_the_compose_file_fits_the_command_and_its_neighbours(guarded):
    (compose,) = read("compose.yaml")
    service = compose["services"]["vitreous"]
    found = options_of(service["command"])
    assert (found.host, found.port, found.models) == ("0.0.0.0", 8000, ("/data/runs/photos-1",))
    secrets = [
        one if isinstance(one, str) else one["source"]
        for other in compose["services"].values()
        for one in other.get("secrets", ())
    ]
    assert set(secrets) == set(compose["secrets"]) and found.keys is None
    assert (
        service["env_file"] == ["../../keys.env"]
        and f"keys.env: {KEYS_VARIABLE}=" in (EXAMPLES / "compose.yaml").read_text()
    )
    assert "/run/secrets/prometheus_key" in (EXAMPLES / "prometheus.yaml").read_text()
    assert "http://vitreous:8000" in (EXAMPLES / "nginx.conf").read_text()
    for other in compose["services"].values():
        for volume in other.get("volumes", ()):
            source = volume.split(":")[0]
            assert (EXAMPLES / source).is_file() == source.endswith((".conf", ".yaml"))
    python, *test, check = shlex.split(service["healthcheck"]["test"])
    assert python == "python3"
    check = check.replace("http://127.0.0.1:8000", guarded.url)
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    assert subprocess.run([sys.executable, *test, check], env=environment).returncode == 0
    assert subprocess.run(
        [sys.executable, *test, check.replace("/readyz", "/none")], env=environment, stderr=subprocess.DEVNULL
    ).returncode


def test_the_kubernetes_manifest_fits_the_command(client):
    deployment, service = read("kubernetes.yaml")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    found = options_of(container["args"])
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert {one["name"] for one in spec["volumes"]} == set(mounts)
    assert (
        found.host == "0.0.0.0"
        and found.models == (f"photos={mounts['model']}",)
        and found.keys.startswith(mounts["keys"])
    )
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[name]["httpGet"]
        assert client.get(probe["path"]).status_code == 200 and probe["port"] == found.port
    assert service["spec"]["ports"] == [{"port": 80, "targetPort": found.port}]
    assert (
        service["spec"]["selector"]
        == deployment["spec"]["template"]["metadata"]["labels"]
        == deployment["spec"]["selector"]["matchLabels"]
    )
    assert spec["terminationGracePeriodSeconds"] > found.timeout + 5  # what was accepted is answered before the end


def test_the_container_has_what_the_service_needs():
    text = (ROOT / "Containerfile").read_text()
    extras = re.search(r"/source\[([\w,]+)\]", text)[1].split(",")
    assert "serve" in extras and 'ENTRYPOINT ["vitreous"]' in text
