"""The notebooks in examples/ run from their first cell to their last, without a network."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.ipynb"))])
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "write_photographs.py", tmp_path)
    book = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells), "committed with outputs"
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.get("outputs") for cell in book.cells)
    assert "vitreous" in "".join(cell.source for cell in book.cells if cell.cell_type == "code")
