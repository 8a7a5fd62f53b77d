"""The memory that is free, within a container's limit."""

from pathlib import Path

import pytest

from vitreous.runtime import memory


@pytest.mark.parametrize(("limit", "free"), [(900, 450), (500, 50), (400, 0), ("max", None)])
def test_a_containers_limit_bounds_what_is_free(
    limit: int | str, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = memory.read_free_memory()
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 400\nfile 200\nactive_file 100\ninactive_file 50\nshmem 50\n")
    found = memory.read_free_memory()
    assert found == free if free is not None else found > machine // 2
