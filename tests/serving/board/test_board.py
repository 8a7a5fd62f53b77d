"""The board: it reads only what is new, says how each run is, never leaves its folder, and writes nothing."""

import json
import math
import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from vitreous.errors import ConfigError
from vitreous.metrics.classification import wilson_interval
from vitreous.serving.board import curves, page
from vitreous.serving.board.address import View
from vitreous.serving.board.app import build_app
from vitreous.serving.board.curves import POINTS, Curve, Metrics
from vitreous.serving.board.folder import Folder
from vitreous.serving.board.runs import Runs, list_settings
from vitreous.serving.board.words import CHINESE
from vitreous.storage.lock import FolderLock

TRAIN = {"kind": "train", "samples": 640, "lr": 0.1, "images_per_second": 99.0, "seconds": 4.0}
HOSTILE = "<script>alert('a')</script>"


def write_run(path, steps=10, until=10, top1=0.75, settings=None, ended=None, evaluated=True):
    """Write a run folder as it is after so many steps."""
    path.mkdir(parents=True)
    config = {"recipe": "small", "batch": 64, "optimizer": {"lr": 0.1}} | (settings or {})
    document = {"vitreous_run": 2, "config": config, "steps": steps, "data": {"validation": 80}, "parameters": 1234}
    (path / "config.json").write_text(json.dumps(document))
    records = [{**TRAIN, "step": step, "epoch": step / 5, "loss": 2 / step} for step in range(1, until + 1)]
    if evaluated:
        records.append(
            {"kind": "evaluation", "step": until, "epoch": until / 5, "loss": 0.9, "top1": top1, "best": True}
        )
    records += [ended] if ended else []
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records))
    return path


def follow(folder):
    runs = Runs(Folder(folder))
    runs.refresh(0)
    return runs


def ask(folder, address, hosts=None):
    return TestClient(build_app(Folder(folder), hosts), base_url="http://localhost").get(address)


def test_a_long_line_is_thinned_and_loses_no_peak():
    curve, values = Curve(), [math.sin(step / 5000) for step in range(100_000)]
    values[77_777] = 50.0
    for step, value in enumerate(values):
        curve.add(float(step), value)
    points = curve.means()
    assert POINTS // 2 <= len(points) < POINTS + 1 and len(curve.extremes()) < POINTS
    assert max(y for _, y in curve.extremes()) == 50.0 and min(y for _, y in curve.extremes()) < -0.99
    start = 0
    for x, mean in points:
        assert mean == pytest.approx(sum(values[start : int(x) + 1]) / (int(x) + 1 - start))
        start = int(x) + 1
    assert start == len(values)


def test_a_short_line_is_kept_as_it_is():
    curve, values = Curve(), [(float(step), 1 / (step + 1)) for step in range(400)]
    for x, y in values:
        curve.add(x, y)
    assert curve.means() == curve.extremes() == values


def test_only_what_is_new_is_read_and_what_was_cut_back_is_read_anew(tmp_path, monkeypatch):
    run = write_run(tmp_path / "a")
    metrics, read = Metrics(Folder(tmp_path), "a"), []
    real = os.pread
    monkeypatch.setattr(curves.os, "pread", lambda *place: read.append(real(*place)) or read[-1])
    assert metrics.read() and not metrics.read()
    file, before = run / "metrics.jsonl", (run / "metrics.jsonl").read_bytes()
    with file.open("ab") as stream:
        stream.write(b'{"kind": "train", "step": 11, "epoch": 2.2, "loss": 0.5}\n{"kind": "train", "st')
    read.clear()
    assert metrics.read() and metrics.step == 11 and metrics.unread == 21
    assert sum(map(len, read)) < 400
    file.write_bytes(
        before[:-1] + b" \n" + b'{"kind": "evaluation", "step": 12, "epoch": 3, "loss": 0.7, "top1": 0.1}\n' * 2
    )
    assert metrics.read() and metrics.step == 12 and len(metrics.curves["train"]["loss"].means()) == 10
    file.write_bytes(before)
    assert metrics.read() and metrics.step == 10
    file.unlink()
    assert metrics.read() and metrics.step == 0 and metrics.curves["train"] == {}


def test_lines_that_are_no_records_are_counted_and_stop_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "CHUNK", 1000)
    run = write_run(tmp_path / "a", until=3)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"[1]\n\xff\n" + b"[" * 1500 + b"\n" + b'{"kind": "train", "step": 4, "epoch": 0.8, "loss": null}\n')
        file.write(b'{"kind": "train", "step": 5, "epoch": 1, "loss": 1e999}\n{"kind": "evaluation", "top1": "high"}\n')
    metrics = Metrics(Folder(tmp_path), "a")
    while metrics.read(1000):
        pass
    assert (metrics.step, metrics.damaged, metrics.unread) == (5, 3, 0)
    assert len(metrics.curves["train"]["loss"].means()) == 3
    assert metrics.best["top1"] == 0.75


def test_the_best_evaluation_is_shown_with_its_interval(tmp_path):
    run = write_run(tmp_path / "a", top1=0.75)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "evaluation", "step": 10, "epoch": 2, "loss": 0.8, "top1": 0.7}\n')
    found = follow(tmp_path).by_name["a"]
    assert found.figure == ("top1", 0.75)
    assert found.interval == wilson_interval(60, 80)
    assert page.tell(found)["interval"] == "64.5% to 83.2%"


def test_states_are_told_from_the_folders(tmp_path):
    write_run(tmp_path / "done")
    write_run(tmp_path / "half", until=5)
    write_run(tmp_path / "last" / "step", evaluated=False)
    write_run(tmp_path / "wild", until=4, ended={"kind": "stopped", "why": "diverged", "step": 4, "reason": "NaN"})
    write_run(
        tmp_path / "killed", until=4, ended={"kind": "stopped", "why": "failed", "step": 4, "reason": "no memory"}
    )
    early = write_run(tmp_path / "early", until=5, settings={"early_stop": {"patience": 3}})
    (early / "checkpoints" / "step-5").mkdir(parents=True)
    (early / "checkpoints" / "step-5" / "state.json").write_text('{"state": {"finished": true}}')
    busy = write_run(tmp_path / "busy", until=5)
    away = write_run(tmp_path / "away", until=5)
    (away / ".lock").write_text('{"pid": 1, "host": "elsewhere"}')
    with FolderLock(busy):
        runs = follow(tmp_path)
        assert {name: run.state for name, run in runs.by_name.items()} == {
            "done": "finished", "half": "interrupted", "last/step": "interrupted", "wild": "diverged",
            "killed": "interrupted", "early": "finished", "busy": "running", "away": "running",
        }  # fmt: skip
        assert runs.by_name["busy"].seconds_left == pytest.approx(4.0, abs=1.0)  # 5 of 10 steps took 4 s
        assert runs.by_name["half"].seconds_left is None
        assert (runs.by_name["wild"].reason, runs.by_name["killed"].reason) == ("NaN", "no memory")
    os.utime(away / "metrics.jsonl", (1, 1))
    runs.refresh(0)
    runs._look()
    assert (runs.by_name["busy"].state, runs.by_name["away"].state) == ("interrupted", "interrupted")


def test_runs_come_and_go(tmp_path):
    write_run(tmp_path / "a" / "b" / "c")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"vitreous_model": 2}')
    runs = follow(tmp_path)
    assert list(runs.by_name) == ["a/b/c"]
    (tmp_path / "a").rename(tmp_path / "z")
    (write_run(tmp_path / "damaged") / "config.json").write_text("{")
    runs._look()
    assert sorted(runs.by_name) == ["damaged", "z/b/c"]
    assert "can&#39;t be read" in page.render_row(runs.by_name["damaged"], None, False)
    assert follow(tmp_path / "z" / "b" / "c").by_name[""].title == "c"


def test_what_differs_comes_first(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", settings={"optimizer": {"lr": 0.2}, "seed": 1})
    found = list(list_settings(list(follow(tmp_path).by_name.values())))
    assert found[:2] == [("optimizer.lr", [0.1, 0.2], True), ("seed", [None, 1], True)]
    assert not any(differs for _, _, differs in found[2:]) and len(found) == 4


@pytest.mark.parametrize(
    "view", [View(), View(("a", "b/c d&e"), "x=1", "best", 20, True, "step", 3), View(smooth=0)]
)  # fmt: skip
def test_a_view_is_its_address(view):
    from urllib.parse import parse_qs

    assert View.read(parse_qs(view.query)) == view


def test_an_address_that_says_nothing_sensible_is_the_usual_view():
    odd = {"sort": ["x"], "smooth": ["7"], "log": ["yes"], "by": [""], "page": ["-1"], "run": []}
    assert View.read(odd) == View()
    assert View.read({"page": ["9" * 5000]}) == View()
    assert len(View.read({"run": [str(number) for number in range(100)]}).runs) == 6


def test_no_more_can_be_ticked_than_are_shown(tmp_path):
    for number in range(7):
        write_run(tmp_path / f"run-{number}")
    for count, free in ((5, 2), (6, 0)):
        text = ask(tmp_path, "/?" + "&".join(f"run=run-{number}" for number in range(count))).text
        boxes = re.findall(r'<input type="checkbox" name="run"[^>]*>', text)
        assert sum("checked" in one for one in boxes) == count
        assert sum("disabled" not in one and "checked" not in one for one in boxes) == free
    assert "6 are side by side, no more fit; untick one first" in text


@pytest.mark.parametrize("address", ["/", "/events"])
def test_an_address_with_too_many_options_is_refused(tmp_path, address):
    answer = ask(tmp_path, f"{address}?{'run=a&' * 201}")
    assert answer.status_code == 400 and "more than 200 options" in answer.text


def test_head_is_answered_as_get_without_a_body(tmp_path):
    answer = TestClient(build_app(Folder(tmp_path))).head("/")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")


def test_rows_are_found_ordered_and_paged(tmp_path, monkeypatch):
    for number in range(7):
        write_run(tmp_path / f"run-{number}", top1=number / 10, settings={"recipe": f"of{number % 2}"})
    runs = follow(tmp_path)
    titles = [run.title for run in View(find="OF1 run").choose_rows(runs)]
    assert sorted(titles) == ["run-1", "run-3", "run-5"]
    assert View(sort="best").choose_rows(runs)[0].title == "run-6"
    monkeypatch.setattr(page, "ROWS", 3)
    view = View(sort="name", page=3)
    assert [run.title for run in page.list_page(page.choose(runs, view))] == ["run-6"]
    assert "page=2" in page.render_table(page.choose(runs, view))


def test_the_page_escapes_what_runs_hold_and_runs_nothing_of_it(tmp_path):
    name = HOSTILE.replace("/", "\u2044")
    run = write_run(
        tmp_path / name, settings={"recipe": HOSTILE}, ended={"kind": "stopped", "why": HOSTILE, "reason": HOSTILE}
    )
    (run / "report.html").write_text(f'<section id="mistakes">{HOSTILE}</section>')
    answer = ask(tmp_path, "/")
    assert answer.status_code == 200 and HOSTILE not in answer.text and name not in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    identity = page.find_id(name)
    for address in (f"/runs/{identity}/report.html", f"/runs/{identity}/report.html?section=mistakes"):
        policy = ask(tmp_path, address).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src" not in policy
    assert 'class="cut none"' in ask(tmp_path, f"/runs/{identity}/report.html?section=results").text


def test_nothing_outside_the_folder_is_read(tmp_path):
    outside = write_run(tmp_path / "outside")
    (outside / "report.html").write_text("secret")
    inside = write_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "linked").symlink_to(outside)
    (inside / "report.html").symlink_to(outside / "report.html")
    (inside / "model").symlink_to(outside)
    (inside / "metrics.jsonl").unlink()
    (inside / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
    runs = follow(tmp_path / "runs")
    assert list(runs.by_name) == ["a"] and runs.by_name["a"].step == 0
    identity = page.find_id("a")
    for address in (
        f"/runs/{identity}/report.html", f"/runs/{identity}/model/config.json", f"/runs/{identity}/../../outside/report.html",
        f"/runs/{page.find_id('../outside')}/report.html", "/runs/..%2foutside/report.html", "/runs/linked/report.html",
        f"/runs/{identity}/%2e%2e/config.json", "/..%2f..%2fetc/passwd",
    ):  # fmt: skip
        assert ask(tmp_path / "runs", address).status_code == 404, address
    folder = Folder(tmp_path / "runs")
    for name in ("../outside/config.json", "/etc/passwd", "a/../a/config.json", "", "a", "a/\0", "linked/config.json"):
        with pytest.raises(OSError):
            folder.read(name)


def test_a_pipe_blocks_nothing(tmp_path):
    run = write_run(tmp_path / "a")
    os.mkfifo(run / "report.html")
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "config.json")
    assert list(follow(tmp_path).by_name) == ["a"]
    assert ask(tmp_path, f"/runs/{page.find_id('a')}/report.html").status_code == 404


def test_nothing_is_written(tmp_path):
    with FolderLock(write_run(tmp_path / "a", until=5)):
        pass
    before = {path: path.lstat() for path in sorted(tmp_path.rglob("*"))}
    assert ask(tmp_path, "/?run=a&log=1").status_code == 200
    after = {path: path.lstat() for path in sorted(tmp_path.rglob("*"))}
    told = ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    assert {path: [getattr(one, name) for name in told] for path, one in before.items()} == {
        path: [getattr(one, name) for name in told] for path, one in after.items()
    }


def test_a_board_of_one_machine_answers_to_no_other_name(tmp_path):
    app = build_app(Folder(tmp_path), ("localhost",))
    assert TestClient(app, base_url="http://localhost:81").get("/").status_code == 200
    refused = TestClient(app, base_url="http://evil.example").get("/")
    assert refused.status_code == 421 and "--host" in refused.text


def test_a_logarithmic_chart_leaves_out_what_has_no_logarithm(tmp_path):
    write_run(tmp_path / "a")
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 11, "epoch": 2.2, "loss": 0}\n')
    shown = page.choose(follow(tmp_path), View(log=True))
    chart = next(one for one in page.draw_charts(shown) if one["title"] == "Training loss")
    assert len(json.loads(chart["data"])["lines"][0]["points"]) == 10
    usual = page.draw_charts(shown._replace(view=replace(shown.view, log=False, by="step")))
    assert json.loads(usual[0]["data"])["lines"][0]["points"][-1][0] == 11


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "localhost"])
def test_every_address_of_this_machine_alone_keeps_out_other_names(tmp_path, host):
    import httpx

    import vitreous

    served = vitreous.board(tmp_path, host=host, port=0)
    try:
        assert httpx.get(served.url, trust_env=False).status_code == 200
        assert httpx.get(served.url, headers={"Host": "evil.example"}, trust_env=False).status_code == 421
    finally:
        served.stop()


def test_it_is_served_until_it_is_stopped(tmp_path):
    import httpx

    import vitreous

    write_run(tmp_path / "photos-1")
    served = vitreous.board(tmp_path, port=0)
    try:
        assert "photos-1" in httpx.get(served.url, trust_env=False).text
        with pytest.raises(ConfigError, match="is in use; choose another one"):
            vitreous.board(tmp_path, port=int(served.url.rpartition(":")[2]))
        with httpx.stream("GET", f"{served.url}/events", trust_env=False) as events:
            assert next(events.iter_lines()) == "event: parts"
    finally:
        served.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.url, trust_env=False)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for name, said in (("none", "no such file or folder"), ("file", "is a file")):
        with pytest.raises(ConfigError, match=said):
            Folder(tmp_path / name)


@pytest.mark.slow
def test_a_thousand_runs_and_a_million_records(tmp_path):
    """The page is there while the long run is still being read; afterwards a look costs little."""
    import time

    for number in range(1000):
        write_run(tmp_path / f"run-{number}", until=10)
    rng, long = random.Random(0), write_run(tmp_path / "long", steps=1_000_000, until=1)
    line = '{"kind": "train", "step": %d, "epoch": %.5f, "samples": 64, "loss": %.5f, "lr": 0.1, "seconds": 9}\n'
    with (long / "metrics.jsonl").open("a") as file:
        file.writelines(line % (step, step / 5, rng.random()) for step in range(2, 1_000_001))
    runs, times = Runs(Folder(tmp_path)), []
    while not times or runs.unread:
        started = time.process_time()
        runs.refresh(0)
        page.render_page(page.choose(runs, View()))
        times.append(time.process_time() - started)
        assert len(times) < 200
    assert runs.by_name["long"].step == 1_000_000
    assert len(runs.by_name["long"].metrics.curves["train"]["loss"].means()) <= POINTS
    started = time.process_time()
    runs.refresh(0)
    print([round(one, 2) for one in times[:3]], max(times), time.process_time() - started)
    assert max(times) < 5


def test_the_page_is_in_the_language_of_its_reader(tmp_path):
    write_run(tmp_path / "a", until=5)
    client = TestClient(build_app(Folder(tmp_path)), base_url="http://localhost")
    english = client.get("/", headers={"Accept-Language": "en-GB, zh"}).text
    chinese = client.get("/", headers={"Accept-Language": "fr, zh-TW;q=0.9, en;q=0.8"}).text
    assert '<html lang="en">' in english and "Training loss" in english and "interrupted" in english
    assert '<html lang="zh-CN">' in chinese and "训练损失" in chinese and "已中断" in chinese
    shown = re.sub(r"<code>.*?</code>|<option value=\"en\".*?</option>|<[^>]*>|&\w+;", " ", chinese, flags=re.DOTALL)
    names = {"test", "the", "page", "langua", "Wilson", "top", "recipe", "small", "batch", "optimizer"}
    assert set(re.findall(r"[A-Za-z]{3,}", shown)) <= names
    client.cookies.set("language", "en")
    assert '<html lang="en">' in client.get("/", headers={"Accept-Language": "zh"}).text
    assert page.render_page(page.choose(follow(tmp_path), View())).startswith(b'<!doctype html>\n<html lang="en">')


def test_whatever_is_said_is_said_in_chinese_too():
    folder = Path(page.__file__).parent
    said = set()
    for path in (*folder.glob("*.html"), folder / "page.py"):
        said |= set(re.findall(r"""say\w*\(\s*"((?:[^"\\]|\\.)*)\"""", path.read_text(encoding="utf-8")))
    assert len(said) > 50 and said <= set(CHINESE), said - set(CHINESE)
    for english, chinese in CHINESE.items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese)), english
        assert re.search("[\u4e00-\u9fff]", chinese) or english == "{step} of {steps}", english
