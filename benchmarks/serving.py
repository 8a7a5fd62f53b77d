"""What the HTTP service costs, how it behaves under too much load, and how it compares with LitServe and Gradio.

    python benchmarks/serving.py --images FOLDER [--parts limit load memory peers page] [--environments FOLDER]

Every server is pinned to one core, the load generator (serving_load.py) to another; both send and take the same JPEG files, in float32 by
torch. The model is Ti/16 with 1,000 classes and random weights.

limit   images a second of a Predictor that is called with the bytes themselves, and of the service, in turns; the share is the median of
        the rounds' ratios.
load    latency and refusals at 50, 90, 110 and 200% of the service's images a second, at a steady rate, whether answers come or not.
memory  resident memory over 100,000 requests of every kind, three in ten of them such as can't be answered, from the 10,000th on; a small
        model, so that it ends.
peers   throughput, latency of one client, time from the start to the first answer, and memory of all processes (PSS), of the service and of
        the same Predictor behind LitServe and Gradio, in turns; who isn't measured is stopped. Makes environments for the peers.
page    on all cores: first paint of the service's page, from the choice of a file to its labels, and an answer to one client.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vitreous
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.runtime.processor import read_cpu_model
from vitreous.weights.model_folder import ModelFolder, save_model

HERE = Path(__file__).parent
SERVER, GENERATOR = 0, 1
"""Cores, by their place among those that this process may use."""
CLIENTS = 32
QUEUE = 64
"""Images that wait at most, under more load than can be answered."""
PEERS = {"litserve": "litserve_peer.py", "gradio": "gradio_peer.py"}
ADDRESSES = {"vitreous": "/v1/predict", "litserve": "/predict", "gradio": "/gradio_api/run/predict"}
LIMIT = """
import sys, time, vitreous
predictor = vitreous.load(sys.argv[1], device="cpu", progress=False)
images = [open(name, "rb").read() for name in sys.argv[2:]]
predictor(images)
print("ready", flush=True)
for line in sys.stdin:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < float(line):
        count += len(predictor(images))
    print(count / (time.perf_counter() - began), flush=True)
"""
"""A Predictor on its own: for each line of seconds, its images a second."""


@dataclass(frozen=True)
class Server:
    """A server that answers, and how long it took until it did."""

    name: str
    url: str
    process: subprocess.Popen
    started: float

    @property
    def way(self) -> str:
        """How an image is sent to it."""
        return "form" if self.name == "vitreous" else self.name

    def stop(self) -> None:
        """Let it take no part of the core."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def measure_memory(self, kind: str = "Pss") -> float:
        """Return the MiB of all its processes, shared ones divided; Pss_Anon: of its own, without files."""
        found = 0
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if os.getpgid(int(entry.name)) == self.process.pid:
                    lines = (entry / "smaps_rollup").read_text().splitlines()
                    found += sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
        return found / 1024


def pinned(place: int) -> dict[str, Any]:
    """Return how a process is started on one core, in a group of its own."""
    core = sorted(os.sched_getaffinity(0))[place]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    return {"preexec_fn": lambda: os.sched_setaffinity(0, [core]), "env": environment, "start_new_session": True}


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def serve(name: str, command: list[str], port: int, image: Path, **how: Any) -> Iterator[Server]:
    """Start a server; yield it once it has answered; end it and all that it has started."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **(how or pinned(SERVER)))
    url = f"http://127.0.0.1:{port}{ADDRESSES[name]}"
    server = Server(name, url, process, 0.0)
    try:
        while "200" not in ask(server, [image], "--clients", "1", "--most", "1")["statuses"]:
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise SystemExit(f"{name} doesn't answer")
            time.sleep(0.05)
        yield Server(name, url, process, time.perf_counter() - began)
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.go_on()
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            os.killpg(process.pid, signal.SIGKILL)


def serve_own(model: Path, image: Path, *options: str, **how: Any) -> contextlib.AbstractContextManager[Server]:
    port = find_port()
    command = [sys.executable, "-m", "vitreous", "serve", f"a={model}", "--port", str(port), "--no-log", *options]
    return serve("vitreous", command, port, image, **how)


def ask(server: Server, images: list[Path], *options: str) -> dict[str, Any]:
    """Return what the load generator says."""
    command = [
        sys.executable,
        str(HERE / "serving_load.py"),
        server.url,
        "--way",
        server.way,
        *options,
        "--images",
        *map(str, images),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **pinned(GENERATOR))
    return json.loads(done.stdout)


def write_model(path: Path, name: str, size: int, classes: int = 1000) -> Path:
    model = vitreous.create(name, classes=classes, image=(size, size))
    names = tuple(f"class {number}" for number in range(classes))
    save_model(path, ModelFolder(model, PreprocessConfig((size, size), crop=0.875), DecodeConfig(), names))
    return path


def measure_limit(model: Path, images: list[Path], rounds: int, seconds: float) -> float:
    """Compare the service with its Predictor; return the service's images a second."""
    command = [sys.executable, "-c", LIMIT, str(model), *map(str, images)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **pinned(SERVER)) as bare:
        assert bare.stdin is not None and bare.stdout is not None and bare.stdout.readline() == "ready\n"
        rates: dict[str, list[float]] = {"predictor": [], "service": []}
        with serve_own(model, images[0]) as server:
            for _ in range(rounds):
                print(seconds, file=bare.stdin, flush=True)
                rates["predictor"].append(float(bare.stdout.readline()))
                rates["service"].append(
                    ask(server, images, "--clients", str(CLIENTS), "--seconds", str(seconds))["rate"]
                )
        bare.stdin.close()
    shares = sorted(service / alone for alone, service in zip(*rates.values(), strict=True))
    for name, found in rates.items():
        print(f"  {name:10} {statistics.median(found):7.1f} img/s")
    print(f"  share      {statistics.median(shares):7.3f}  ({shares[0]:.3f} to {shares[-1]:.3f})", flush=True)
    return statistics.median(rates["service"])


def measure_load(model: Path, images: list[Path], capacity: float, seconds: float) -> None:
    """Show what happens at shares of what can be answered."""
    with serve_own(model, images[0], "--queue", str(QUEUE)) as server:
        ask(server, images, "--clients", str(CLIENTS), "--seconds", "3")
        for share in (0.5, 0.9, 1.1, 2.0):
            found = ask(server, images, "--rate", str(share * capacity), "--seconds", str(seconds))
            said = ", ".join(f"{status}: {count}" for status, count in sorted(found["statuses"].items()))
            print(
                f"  {share:4.0%}  {found['rate']:6.1f} img/s   p50 {found['p50']:7.0f} ms   p99 {found['p99']:7.0f} ms   {said}",
                flush=True,
            )


def measure_growth(folder: Path, requests: int) -> None:
    """Show how resident memory grows over many requests."""
    model, image = write_model(folder / "small", "mu/8", 32, 10), folder / "small.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(image)
    with serve_own(model, image) as server:
        sizes = []
        for _ in range(10):
            found = ask(
                server, [image], "--way", "mixed", "--clients", "8", "--seconds", "1000", "--most", str(requests // 10)
            )
            sizes.append(server.measure_memory("Pss_Anon"))
            print(
                f"  {sum(found['statuses'].values()):6} requests {found['statuses']} in {found['seconds']:.0f} s, {sizes[-1]:.1f} MiB",
                flush=True,
            )
    print(f"  growth after warm-up {sizes[-1] - sizes[0]:+.1f} MiB", flush=True)


def make_environment(folder: Path, name: str) -> Path:
    """Return a Python that finds a peer, and vitreous with all that it needs where the peer doesn't bring it."""
    place = folder / name
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        packages = next(place.glob("lib/python*/site-packages"))
        (packages / "benchmark.pth").write_text(
            f"{Path(vitreous.__file__).parents[1]}\n{sysconfig.get_path('purelib')}\n"
        )
        subprocess.run([python, "-m", "pip", "install", "--quiet", name], check=True)
    return python


def measure_peers(model: Path, images: list[Path], environments: Path, rounds: int, seconds: float) -> None:
    """Compare the service with its peers, one at a time on the same core."""
    found: dict[str, dict[str, list[float]]] = {}
    pythons = {name: make_environment(environments, name) for name in PEERS}
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ("vitreous", *PEERS):
            port = find_port()
            command = [str(pythons[name]), str(HERE / PEERS[name]), str(model), str(port)] if name in PEERS else []
            starts = []
            for turn in range(2):
                own = serve(name, command, port, images[0]) if command else serve_own(model, images[0])
                server = stack.enter_context(own) if turn else contextlib.ExitStack().enter_context(own)
                starts.append(server.started)
                if not turn:
                    own.__exit__(None, None, None)
            servers.append(server)
            found[name] = {"start, s": starts}
            ask(server, images, "--clients", str(CLIENTS), "--seconds", "4")
            server.stop()
        for _ in range(rounds):
            for server in servers:
                server.go_on()
                many = ask(server, images, "--clients", str(CLIENTS), "--seconds", str(seconds))
                one = ask(server, images, "--clients", "1", "--seconds", str(seconds / 2))
                figures = {"img/s": many["rate"], "p50 of 32, ms": many["p50"], "p99 of 32, ms": many["p99"], "p50 alone, ms": one["p50"], "p99 alone, ms": one["p99"], "MiB": server.measure_memory()}  # fmt: skip
                for key, value in figures.items():
                    found[server.name].setdefault(key, []).append(value)
                server.stop()
    for name, figures in found.items():
        print(
            f"  {name:9}"
            + "   ".join(
                f"{key} {statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"
                for key, values in figures.items()
            ),
            flush=True,
        )


def measure_page(model: Path, images: list[Path]) -> None:
    """Show how soon the page is there, and an answer, on all cores."""
    from playwright.sync_api import sync_playwright

    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with serve_own(model, images[0], env=environment, start_new_session=True) as server, sync_playwright() as driver:
        found = ask(server, images, "--clients", "1", "--seconds", "10")
        print(f"  answer to one client   p50 {found['p50']:.0f} ms, p99 {found['p99']:.0f} ms")
        path = next(path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/google-chrome")) if path.exists())
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        paints, answers = [], []
        for image in images[:7]:
            page = browser.new_context(bypass_csp=True).new_page()
            page.goto(server.url.removesuffix("/v1/predict"))
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            page.wait_for_function("document.getElementById('model').options.length")
            page.evaluate(WATCH)
            page.set_input_files("#file", image)
            answers.append(page.wait_for_function("window.answered").json_value())
            page.context.close()
        browser.close()
    for name, times in (("first paint", paints), ("file to labels", answers)):
        print(f"  {name:22} median {statistics.median(times):.0f} ms, most {max(times):.0f} ms", flush=True)


WATCH = """() => {
  let chosen = 0;
  document.getElementById("file").addEventListener("change", () => { chosen = performance.now(); }, { capture: true });
  new MutationObserver(() => { if (document.querySelector("#labels li")) window.answered ??= performance.now() - chosen; })
    .observe(document.getElementById("labels"), { childList: true });
}"""
"""Notes how long it takes from the choice of a file to its labels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of JPEG photographs")
    parser.add_argument("--parts", nargs="+", default=["limit", "load", "memory", "peers", "page"])
    parser.add_argument("--environments", type=Path, help="where the peers' environments are, or are made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--requests", type=int, default=100_000)
    given = parser.parse_args()
    images = sorted(given.images.rglob("*.jpg"))[::3][:64]
    print(
        f"{read_cpu_model()}, {len(images)} photographs of {statistics.mean(one.stat().st_size for one in images) / 1000:.0f} kB on average"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, capacity = write_model(folder / "model", "Ti/16", 224), 0.0
        for part in given.parts:
            print(part, flush=True)
            if part == "limit":
                capacity = measure_limit(model, images, given.rounds, given.seconds)
            elif part == "load":
                measure_load(model, images, capacity, given.seconds)
            elif part == "memory":
                measure_growth(folder, given.requests)
            elif part == "peers":
                measure_peers(model, images, given.environments or folder, given.rounds, given.seconds)
            elif part == "page":
                measure_page(model, images)


if __name__ == "__main__":
    main()
