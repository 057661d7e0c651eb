"""Which process did something, so that another can tell whether it still runs."""

import os
import platform
import re
from pathlib import Path
from uuid import getnode

import psutil

NUMBERS = Path("/proc/self/ns/pid")
BOOT = Path("/proc/sys/kernel/random/boot_id")
SLACK = 5  # seconds by which the start of a process may seem to move when the clock is set


def name_machine() -> str:
    """This machine since its start, or a container, whose processes have numbers of their own; its name alone may be
    another's too.
    """
    started = BOOT.read_text()[:8] if BOOT.exists() else f"{getnode():x}"
    space = re.sub(r"\D", "", str(NUMBERS.readlink())) if NUMBERS.exists() else ""
    return "-".join(filter(None, (platform.node(), started, space)))


def name_process() -> str:
    """machine:process:start in seconds, since numbers of processes are used again."""
    return f"{name_machine()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def has_ended(process: str) -> bool:
    """Whether a process, by its name, ran on this machine and runs no more."""
    machine, _, rest = process.partition(":")
    number, _, start = rest.partition(":")
    if machine != name_machine() or not (number.isdigit() and start.isdigit()):
        return False
    try:
        return abs(psutil.Process(int(number)).create_time() - int(start)) > SLACK
    except psutil.NoSuchProcess:
        return True
