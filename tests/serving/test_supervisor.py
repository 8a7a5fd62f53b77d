"""Which of a service's processes are replaced, when, and what is said of it: none is started here."""

from types import SimpleNamespace

import pytest
from uvicorn.config import Config

from vitreous.serving import supervisor
from vitreous.serving.measurements import SHARED
from vitreous.serving.supervisor import LONGEST_PAUSE, LONGEST_START, Supervisor, Worker


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: found.now))  # its own alone
    return found


def made(lives=True):
    """Return a worker whose process was never started, and lives if it is said so."""
    worker = Worker(Config("unused", log_config=None), [], ([], None), early=False)
    worker.process = SimpleNamespace(
        is_alive=lambda: lives, exitcode=-9, pid=1, kill=lambda: None, join=lambda: None, start=lambda: None
    )
    return worker


@pytest.fixture
def boss(clock, monkeypatch):
    """A supervisor that takes no signals, and notes when it starts processes, which end at once."""
    found = object.__new__(Supervisor)
    found.should_exit, found.config, found.started = (
        SimpleNamespace(is_set=lambda: False),
        Config("unused", log_config=None),
        [],
    )

    def start():
        found.started.append(clock.now)
        return made(lives=False)

    found.start_one = start
    monkeypatch.setattr(supervisor, "mark_process_dead", lambda pid: None)
    found.said = []
    monkeypatch.setattr(supervisor.LOG, "error", lambda text, extra: found.said.append((text, extra["facts"]["why"])))
    return found


def test_a_process_has_time_to_start_and_then_answers_in_time(clock):
    """Sixteen that import torch on two cores take longer than a health check."""
    worker = made()
    for _ in range(3):
        clock.now += 100
        assert worker.is_well(0.01) and not worker.answered
    assert worker.child_conn.poll() and worker.child_conn.recv() == b"ping"
    assert not worker.child_conn.poll()  # it is asked once
    worker.child_conn.send(False)
    assert worker.is_well(0.01) and worker.answered
    assert not worker.is_well(0.01)  # asked again, and no answer comes
    silent = made()
    clock.now += LONGEST_START
    assert not silent.is_well(0.01)
    assert not made(lives=False).is_well(0.01)


def test_processes_that_cannot_start_are_tried_less_and_less_often(boss, clock):
    boss.processes = [made(lives=False)]
    for _ in range(400):
        boss.keep_subprocess_alive()
        clock.now += 0.5
    pauses = [later - before for before, later in zip(boss.started, boss.started[1:], strict=False)]
    assert pauses[:4] == [4.5, 8.5, 16.5, LONGEST_PAUSE + 0.5]  # half a second until its end is seen
    assert set(pauses[4:]) == {LONGEST_PAUSE + 0.5}
    assert set(boss.said) == {("a process is replaced", "it ended with code -9")}


def test_a_process_that_had_answered_is_replaced_at_once_and_it_is_said_why(boss):
    hangs, died = made(), made(lives=False)
    hangs.answered = died.answered = True
    boss.config.timeout_worker_healthcheck = 0.01
    boss.processes = [hangs, died]
    boss.keep_subprocess_alive()
    assert len(boss.started) == 2 and hangs not in boss.processes
    assert [why for _, why in boss.said] == ["it didn't answer, and was killed", "it ended with code -9"]


def test_a_process_accepts_at_once_where_no_other_can_answer(boss, monkeypatch, tmp_path):
    """And finds the folder of measurements, which what tidies up may have removed."""
    monkeypatch.setenv(SHARED, str(tmp_path / "gone"))
    monkeypatch.setattr(Worker, "start", lambda self: None)
    boss.sockets, boss.work = [], ([], None)
    started = made()
    boss.processes = [started, made(lives=False)]
    assert Supervisor.start_one(boss).early
    started.answered = True
    assert not Supervisor.start_one(boss).early
    assert (tmp_path / "gone").is_dir()
