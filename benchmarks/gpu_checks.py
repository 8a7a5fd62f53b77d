"""What a GPU has to show besides speed: equal bits of equal runs, of a killed one too, and a CPU's labels; some five minutes.

    python benchmarks/gpu_checks.py [--device cuda]

Each line says what was compared, and whether it is equal; it exits with 1 where something that is promised isn't. With --device cpu the
script goes the same way, which shows that it runs. The tests that wait for a GPU are separate:

    python -m pytest tests/engines/test_gpu_path.py tests/runtime/test_determinism.py
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VIT = ("formula:fractals?classes=10&images=40", "--recipe", "plain-s16", "--batch", "64", "--duration", "8st")
RESNET = ("formula:fractals?classes=10&images=40", "--recipe", "small", "--batch", "64", "--duration", "8st")
DIGITS = ("digits", "--duration", "60st")
RUNS = {
    "digits, fp32": (*DIGITS, "--precision", "fp32"),
    "digits, bf16": (*DIGITS, "--precision", "bf16"),
    "S/16, bf16": (*VIT, "--precision", "bf16"),
    "S/16, bf16, augmented on the device": (*VIT, "--precision", "bf16", "--augment.on", "device"),
    "small, bf16": (*RESNET, "--precision", "bf16"),
}
MOST = 300
"""Seconds of one command at most."""


class Checks:
    """The results so far, in a folder of their own."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device, self.failed = folder, device, False

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command; a failing one is printed, and fails the whole."""
        command = [sys.executable, "-m", "vitreous", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST, check=False)
        if done.returncode:
            self.say(f"{' '.join(arguments[:2])}: exit code {done.returncode}: {done.stderr[-300:].strip()}", False)
        return done

    def train(self, name: str, *arguments: str) -> str:
        """Train into a run folder of that name; return the hash of its weights."""
        self.run("train", *arguments, "--device", self.device, "--out", str(self.folder / name))
        return self.hash(name)

    def hash(self, name: str) -> str:
        """Return the hash of a run's weights; empty if it has none."""
        file = self.folder / name / "model" / "model.safetensors"
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.exists() else ""

    def say(self, what: str, equal: bool, *, promised: bool = True) -> None:
        """Print a result."""
        self.failed = self.failed or (promised and not equal)
        print(f"{'equal' if equal else 'NOT EQUAL' if promised else 'not equal'}: {what}", flush=True)


def compare_runs(checks: Checks) -> None:
    """Run each twice, without and with deterministic kernels."""
    for number, (name, arguments) in enumerate(RUNS.items()):
        for more in ((), ("--deterministic",)):
            started = time.perf_counter()
            found = [checks.train(f"{number}-{len(more)}-{turn}", *arguments, *more) for turn in range(2)]
            took = (time.perf_counter() - started) / 2
            promised = bool(more) or checks.device == "cpu"
            checks.say(
                f"{name} {' '.join(more)}: {found} ({took:.0f} s each)", found[0] == found[1] != "", promised=promised
            )


def kill_and_resume(checks: Checks) -> None:
    """Kill a run after its first checkpoint and resume it, beside an undisturbed one."""
    arguments = ("digits", "--duration", "400st", "--checkpoint-every", "10st", "--deterministic")
    whole = checks.train("whole", *arguments)
    killed = checks.folder / "killed"
    command = [sys.executable, "-m", "vitreous", "train", *arguments, "--device", checks.device, "--out", str(killed)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not any(killed.glob("checkpoints/*")):
            time.sleep(0.02)
        process.kill()
    checks.run("resume", str(killed))
    checks.say(
        f"killed (exit code {process.returncode}) and resumed",
        process.returncode != 0 and whole == checks.hash("killed") != "",
    )


def compare_devices(checks: Checks) -> None:
    """Evaluate one model on both devices, and in bfloat16, compiled on a GPU."""
    ways = {"cpu": ("--device", "cpu"), "device": ("--device", checks.device)}
    ways["bf16"] = (*ways["device"], "--precision", "bf16", *(("--compile",) if checks.device == "cuda" else ()))
    found = {}
    for name, how in ways.items():
        file = checks.folder / f"{name}.json"
        written = ("--json", str(file), "--out", str(checks.folder / f"evaluated-{name}"))
        checks.run("evaluate", str(checks.folder / "whole"), "digits", *how, *written)
        found[name] = {key: json.loads(file.read_text())[key] for key in ("top1", "nll")} if file.exists() else {}
    for other, most in (("device", 1e-5), ("bf16", 0.05)):
        near = all(found.values()) and found["cpu"]["top1"] == found[other]["top1"]
        near = near and abs(found["cpu"]["nll"] - found[other]["nll"]) < most
        checks.say(f"evaluated on a CPU and {other}: {found}", near, promised=other == "device")


def main() -> int:
    """Check all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = parser.parse_args().device
    with tempfile.TemporaryDirectory() as name:
        checks = Checks(Path(name), device)
        for check in (kill_and_resume, compare_devices, compare_runs):
            check(checks)
    return int(checks.failed)


if __name__ == "__main__":
    sys.exit(main())
