import os
from pathlib import Path

import pytest

from vitreous.storage.relocation import locate, note_places


def test_what_is_there_is_noted_and_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "photos").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    noted = note_places(("photos", "digits", None, "owner/name"), Path("runs/a"))
    assert noted == {"photos": {"absolute": str(tmp_path / "work" / "photos"), "from_run": "../../photos"}}
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert locate("photos", noted, tmp_path / "work/runs/a") == str(tmp_path / "work" / "photos")
    assert locate("digits", noted, tmp_path) == "digits"


def test_data_that_moved_with_its_run_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "old")
    noted = note_places(("photos",), Path("runs/a"))
    os.rename(tmp_path / "old", tmp_path / "new")  # noqa: PTH104
    (tmp_path / "new" / "runs" / "a").mkdir(parents=True)
    found = locate("photos", noted, tmp_path / "new/runs/a")
    assert Path(found).resolve() == tmp_path / "new" / "photos"


@pytest.mark.parametrize("known", [None, 3, {}, {"photos": None}, {"photos": {"absolute": "/nowhere/at/all"}}])
def test_what_is_nowhere_is_as_it_was_typed(known: object, tmp_path: Path) -> None:
    assert locate("photos", known, tmp_path) == "photos"
