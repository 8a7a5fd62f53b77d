"""Which signals ask a run to stop."""

import os
import signal

import pytest

from vitreous.training.interrupt import Interrupt


@pytest.mark.parametrize("ignored", [False, True])
def test_a_hangup_that_was_ignored_stays_ignored(ignored: bool) -> None:
    """Nohup starts a program so: a closed terminal is not to end it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.requested == (None if ignored else signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM), (signal.SIGINT,) * 2]
)
def test_the_same_wish_twice_is_one(numbers):
    """`timeout` signals a process and then its group, schedulers and closing terminals send several: still a checkpoint."""
    with Interrupt() as interrupt:
        for number in numbers:
            os.kill(os.getpid(), number)
        assert interrupt.wait(0)
    assert interrupt.requested == numbers[0]


def test_a_second_ctrl_c_stops_at_once(monkeypatch):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.wait(1)
        monkeypatch.setattr("vitreous.training.interrupt.SAME", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
