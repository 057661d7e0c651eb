import multiprocessing
import os
import signal
import sys

import psutil
import pytest

from stages.shared.aside import start_aside, submit, wait_for
from stages.shared.cli import InputError


def refuse():
    raise InputError("table.csv: no good", ["row 1: this", "row 2: that"])


def test_work_aside_gives_its_result_and_a_failure_is_not_silent():
    aside = start_aside()
    assert wait_for(submit(aside, "builtins.sum", [1, 2])) == 3
    with pytest.raises(ValueError, match="no number"):
        wait_for(submit(aside, "builtins.int", "no number"))
    with pytest.raises(InputError) as caught:
        wait_for(submit(aside, f"{__name__}.refuse"))
    assert str(caught.value) == "table.csv: no good\n  row 1: this\n  row 2: that"


def test_work_aside_that_is_killed_is_told_in_one_line():
    aside = start_aside()
    with pytest.raises(InputError, match="memory ran out"):
        wait_for(submit(aside, "signal.raise_signal", signal.SIGKILL))
    with pytest.raises(InputError, match="memory ran out"):
        submit(aside, "os.getpid")


def start_and_die(send, platform):
    sys.platform = platform
    future = start_aside().submit(os.getpid)
    send.send(future.result())
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_work_aside_ends_with_its_process_however_that_ends(platform):
    """Elsewhere than on Linux it is started and ended in ways that work here too."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe()
    process = context.Process(target=start_and_die, args=(send, platform))
    process.start()
    send.close()  # so that an end without a word is an error here, and not waited for
    pid = receive.recv()
    process.join()
    child = [p for p in psutil.process_iter(["pid"]) if p.pid == pid]
    gone, _ = psutil.wait_procs(child, timeout=60)
    assert len(gone) == len(child)
