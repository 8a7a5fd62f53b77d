"""Chromium without a window, driven through its own protocol over two pipes: a real pointer and real keys."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Tab": 9}


class Browser:
    """One page. What it complains of, in scripts or of its policy, gathers in `complaints`."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = os.fdopen(commands, "wb", 0), os.fdopen(answers, "rb", 0)
        self.number, self.rest, self.session, self.complaints = 0, b"", None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": values}
        message |= {} if self.session is None else {"sessionId": self.session}
        self.commands.write(json.dumps(message).encode() + b"\0")
        while (heard := self.hear()).get("id") != self.number:
            pass
        assert "error" not in heard, (method, heard["error"])
        return heard["result"]

    def hear(self) -> dict[str, Any]:
        """Return the next message."""
        while b"\0" not in self.rest:
            more = os.read(self.answers.fileno(), 1 << 20)
            assert more, "the browser has gone"
            self.rest += more
        one, _, self.rest = self.rest.partition(b"\0")
        heard = json.loads(one)
        said = heard.get("params", {})
        if heard.get("method") == "Runtime.exceptionThrown" or said.get("entry", {}).get("level") == "error":
            self.complaints.append(said)
        return heard

    def open(self, path: Path, scheme: str) -> None:
        """Open a file, in light or dark, and wait until it is there."""
        self.ask("Emulation.setDeviceMetricsOverride", width=1100, height=900, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=path.as_uri())
        while self.hear().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """Return what an expression is on the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def pointer(self, x: float, y: float, *kinds: str) -> None:
        """Move the pointer there, and do more: mousePressed, mouseReleased."""
        for kind in ("mouseMoved", *kinds):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with one empty page; end it afterwards."""
    to_read, commands = os.pipe()
    answers, to_write = os.pipe()

    def place() -> None:
        ends = os.dup(to_read), os.dup(to_write)
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, preexec_fn=place, close_fds=False, **quiet)
        os.close(to_read)
        os.close(to_write)
        try:
            yield Browser(commands, answers)
        finally:
            process.kill()
            process.wait()
