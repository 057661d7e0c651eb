import subprocess
import sys

import psutil

from stages.shared import processes
from stages.shared.processes import has_ended, name_machine, name_process


def test_a_process_has_ended_once_it_runs_no_more():
    assert not has_ended(name_process())
    code = "from stages.shared.processes import name_process; print(name_process())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert has_ended(done.stdout.strip())


def test_a_number_that_is_used_again_is_another_process():
    started = psutil.Process().create_time()
    machine, number, _ = name_process().split(":")
    assert has_ended(f"{machine}:{number}:{started - 100:.0f}")


def test_a_container_with_the_name_of_its_host_is_another_machine(tmp_path, monkeypatch):
    """Its processes have numbers of their own."""
    here = name_process()
    (tmp_path / "pid").symlink_to("pid:[1]")
    monkeypatch.setattr(processes, "NUMBERS", tmp_path / "pid")
    assert not has_ended(f"{here.partition(':')[0]}:999999999:1")


def test_nothing_is_known_of_processes_elsewhere():
    elsewhere = name_process().replace(name_machine(), "localhost-00000000")
    assert not has_ended(elsewhere)
    assert not has_ended("")
    assert not has_ended("a:b")
