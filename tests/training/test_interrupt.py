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
