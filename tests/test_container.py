"""The container file, as far as it can be seen without an engine: what it copies is there and sent along, and it runs as nobody special."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_what_is_copied_is_there_and_not_ignored():
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert copied and all((ROOT / name).exists() and f"!{name}" in sent for name in copied)
    assert "-c /source/constraints.txt" in text and re.search(r"^USER (?!root)", text, re.MULTILINE)
