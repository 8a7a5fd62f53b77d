"""Folders with damaged or hostile contents: the board shows all others, and stays quick."""

import time

import pytest
from tests.serving.board.test_board import ask, follow, write_run

from vitreous.serving.board import page
from vitreous.storage.lock import FolderLock

LARGE = "1" + "0" * 400
DAMAGE = {
    "metrics.jsonl": [
        *(f'"step": {value}, "epoch": 0.1, "loss": 1.0' for value in (LARGE, "NaN", "1e300", '"ten"', "-1e38")),
        *(f'"step": 3, "epoch": 0.1, "seconds": {value}' for value in ("Infinity", "NaN", LARGE, "1e38", '"a"')),
        *(f'"step": 3, "epoch": {value}, "loss": 1.0' for value in ('"first"', "1e-300", LARGE, "Infinity")),
        *(f'"step": 3, "epoch": 1, "{name}": {LARGE}' for name in ("samples", "images_per_second", "loss", "top1", "lr")),
        '"step": 3, "epoch": 1, "loss": 9e299', '"step": 3, "epoch": 2, "loss": -9e299', '"step": 3, "epoch": 2, "loss": 1e-300',
    ],
    "config.json": [
        *(f'"{name}": {LARGE}' for name in ("steps", "parameters")),
        f'"data": {{"validation": {LARGE}}}', '"data": {"validation": 1e299}', '"steps": NaN, "parameters": Infinity',
    ],
}  # fmt: skip


@pytest.mark.parametrize(("file", "words"), [(file, words) for file, all in DAMAGE.items() for words in all])
def test_a_damaged_run_hides_no_other(tmp_path, file, words):
    write_run(tmp_path / "good")
    bad = write_run(tmp_path / "bad", until=5)
    if file == "config.json":
        (bad / file).write_text(f'{{"vitreous_run": 2, "config": {{}}, {words}}}')
    else:
        lines = "".join(f'{{"kind": "{kind}", {words}}}\n' for kind in ("train", "evaluation"))
        (bad / file).write_text(lines + (bad / file).read_text() + lines)
    for held in (False, True):
        for view in ("", "?by=step", "?by=step&log=1", "?log=1&sort=best", "?sort=state"):
            answer = ask(tmp_path, "/" + view)
            assert answer.status_code == 200 and "good" in answer.text and "bad" in answer.text, (held, view)
        if not held:
            FolderLock(bad).__enter__()  # it counts as running: the time that is left is told


def test_a_section_of_a_hostile_report_is_found_at_once(tmp_path):
    run = write_run(tmp_path / "a")
    (run / "report.html").write_text(
        '<section id="a">' * 100_000 + '<section id="mistakes">three</section>' + "<section>" * 9
    )
    began = time.process_time()
    address = f"/runs/{page.find_id('a')}/report.html?section="
    assert (
        "three" in ask(tmp_path, address + "mistakes").text and "three" not in ask(tmp_path, address + "results").text
    )
    assert time.process_time() - began < 5  # minutes before


def test_a_config_of_another_program_hides_no_runs(tmp_path):
    write_run(tmp_path / "project" / "runs" / "a")
    (tmp_path / "project" / "config.json").write_text('{"name": "app"}')
    assert list(follow(tmp_path).by_name) == ["project/runs/a"]
    assert list(follow(tmp_path / "project").by_name) == ["runs/a"]
