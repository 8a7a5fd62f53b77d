"""What docs/export.md shows is executed, on a small model."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.deploy.conftest import traceable

from vitreous.cli.main import main

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "export.md"


@pytest.mark.slow
def test_the_document_does_what_it_says(original, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(original, "runs/photos-probe-1")
    for place in ("unsorted", *(f"photos/class {number}" for number in range(3))):
        Path(place).mkdir(parents=True)
        for number in (1, 2):
            Image.open(photo).rotate(40 * number + len(place) + ord(place[-1])).save(f"{place}/{number}.jpg")
    executed = []
    for language, code in re.findall(r"^```(bash|python)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL):
        with traceable():
            if language == "python":
                exec(code, {})
                executed.append(language)
                continue
            for line in code.splitlines():
                command, *words = shlex.split(line)
                if command == "vitreous":
                    with contextlib.redirect_stdout(io.StringIO()):
                        assert main(words) == 0, line
                    executed.append(words[0])
    assert executed == ["export", "predict", "export", "export", "python", "evaluate", "inspect", "python"]
