"""Cores are counted as the process may use them."""

import os
import subprocess
import sys

import pytest

from vitreous.runtime.threads import count_cores, count_threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux's")
def test_only_cores_that_may_be_used_are_counted():
    code = (
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nos.environ.pop('OMP_NUM_THREADS', None)\n"
        "from vitreous.runtime.threads import count_cores, count_threads\nprint(count_cores(), count_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.parametrize(("said", "expected"), [("3", 3), ("3,2", 3), ("0", None), ("many", None), ("", None)])
def test_threads_are_what_openmp_is_told(monkeypatch, said, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert count_threads() == (count_cores() if expected is None else expected)
