"""The Python of docs/evaluation.md runs."""

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_python_runs(code):
    exec(compile(code, str(DOCUMENT), "exec"), {"__name__": "document"})


def test_there_is_some():
    assert len(BLOCKS) >= 2
