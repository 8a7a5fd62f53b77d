"""How far work is: in place in a notebook, on a terminal and not where nobody looks, and as the caller chooses."""

import io
import re
import sys
from types import SimpleNamespace

import pytest

from vitreous.api.progress import shows_progress
from vitreous.training import progress as module
from vitreous.training.progress import Bar, Lines, Notebook, Pace, choose_display
from vitreous.training.reporter import Silent


class Terminal(io.StringIO):
    """A wide terminal that keeps what it is sent."""

    def isatty(self):
        return True


class Cell:
    """A notebook's cell: each output with its states, the newest last."""

    def __init__(self):
        self.outputs = []

    def display(self, shown, raw, display_id):
        assert raw and display_id
        self.outputs.append([shown])
        return SimpleNamespace(update=lambda shown, raw: self.outputs[-1].append(shown))


@pytest.fixture
def cell(monkeypatch):
    import IPython
    import IPython.display

    found = Cell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", found.display)
    return found


@pytest.fixture
def clock(monkeypatch):
    """The time, in seconds, to be set."""
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_notebook_has_one_output_that_is_brought_up_to_date(cell, clock):
    display = Notebook()
    display.message("run folder: <b>")
    display.phase("training")
    for step in range(1, 1001):
        clock[0] += 0.01
        numbers = {"loss": 2 / step, "images_per_second": 1600.0, "eta_seconds": (1000 - step) / 100}
        display.progress(step, 1000, numbers)
        if step == 500:
            display.evaluation(step, {"loss": 0.25, "top1": 0.5}, best=True)
            during = cell.outputs[0][-1]["text/plain"]
    assert during.endswith("training  500/1,000  loss 0.004  1,600 img/s  5s left")
    display.close()
    (states,) = cell.outputs
    assert 30 < len(states) < 60  # of 1,000 steps in 10 seconds
    assert states[-1]["text/plain"].splitlines() == [
        "run folder: <b>",
        "step 500: validation top-1 50.00%, loss 0.2500 (best so far)",
    ]
    assert "run folder: &lt;b&gt;" in states[-1]["text/html"] and "<b>" not in states[-1]["text/html"]
    assert any("width:50.0%" in one["text/html"] for one in states)
    assert "width:" not in states[-1]["text/html"]


def test_a_bar_shows_paths_as_they_are():
    """Rich reads brackets as its own marks, and ends at one that closes nothing."""
    stream = Terminal()
    display = Bar(stream)
    display.phase("scanning [/b]/set[red]A")
    display.progress(1, 2, {"loss": 1.0})
    display.close()
    assert "scanning [/b]/set[red]A" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


def test_a_notebook_shows_nothing_of_what_says_nothing(cell):
    Notebook().close()
    assert cell.outputs == []


def test_many_sentences_are_counted(cell):
    display = Notebook()
    for number in range(module.LISTED + 5):
        display.message(f"line {number}")
    shown = cell.outputs[0][-1]["text/plain"].splitlines()
    assert shown[0] == "(5 earlier lines)" and shown[1] == "line 5" and shown[-1] == f"line {module.LISTED + 4}"


def test_pace_is_that_since_the_count_began(clock):
    pace = Pace()
    clock[0] = 100.0
    assert pace.add_to(64, 1064, {}) == {}
    clock[0] = 104.0
    assert pace.add_to(264, 1064, {}) == {"per_second": 50.0, "eta_seconds": 16.0}
    assert module.describe(pace.add_to(264, 1064, {})) == "50/s  16s left"
    assert pace.add_to(264, 1064, {"eta_seconds": 1.0}) == {"eta_seconds": 1.0}
    assert pace.add_to(0, 50, {}) == {}  # another count


@pytest.fixture
def error(tmp_path, monkeypatch):
    """Put a stream in place of standard error, which is a terminal or not."""

    def put(terminal):
        stream = (tmp_path / "error").open("w", encoding="utf-8")
        stream.isatty = lambda: terminal
        monkeypatch.setattr(sys, "stderr", stream)

    return put


@pytest.mark.parametrize(
    ("terminal", "wanted", "kind"),
    [
        (True, None, Bar),
        (True, True, Bar),
        (True, False, Silent),
        (False, None, Silent),
        (False, True, Lines),
        (False, False, Silent),
    ],
)
def test_a_script_shows_it_where_somebody_looks(terminal, wanted, kind, error, monkeypatch):
    error(terminal)
    assert type(choose_display(wanted)) is kind
    monkeypatch.setattr(sys, "stderr", None)
    assert type(choose_display(wanted)) is Silent


def test_a_notebook_is_chosen_by_its_kernel_alone(cell, error, monkeypatch):
    error(False)
    assert type(choose_display(None)) is Notebook and type(choose_display(False)) is Silent
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace())  # a terminal's IPython
    assert type(choose_display(None)) is Silent
    monkeypatch.delitem(sys.modules, "IPython")
    assert type(choose_display(True)) is Lines


class Recorder(Silent):
    def __init__(self):
        self.said, self.closed = [], 0

    def message(self, text):
        self.said.append(text)

    def close(self):
        self.closed += 1


@shows_progress
def inner(*, progress=None, reporter=None):
    reporter.message("inner")


@shows_progress
def outer(*, inside=None, progress=None, reporter=None):
    reporter.message("outer")
    inner(progress=inside)
    reporter.message("outer again")


def test_what_a_call_calls_is_shown_where_it_is(monkeypatch):
    opened = []
    monkeypatch.setattr(
        "vitreous.api.progress.choose_display", lambda wanted: opened.append((wanted, Recorder())) or opened[-1][1]
    )
    own = Recorder()
    outer(reporter=own)
    assert own.said == ["outer", "inner", "outer again"] and own.closed == 0 and opened == []
    outer(progress=False)
    assert [(wanted, one.said, one.closed) for wanted, one in opened] == [(False, own.said, 1)]
    opened.clear()
    outer(inside=True)
    assert [(wanted, one.said, one.closed) for wanted, one in opened] == [
        (None, ["outer", "outer again"], 1),
        (True, ["inner"], 1),
    ]


def test_a_call_that_fails_takes_its_bar_away(monkeypatch):
    found = Recorder()
    monkeypatch.setattr("vitreous.api.progress.choose_display", lambda wanted: found)

    @shows_progress
    def fails(*, progress=None, reporter=None):
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert found.closed == 1
