"""The edge between a stage and the terminal: one clear line for bad input, and nothing lost by it."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import yaml


class InputError(Exception):
    """Something a user can put right: the message says what, where, and what is allowed."""


def run_stage(main: Callable[[], None]) -> NoReturn:
    """Run a stage's main and end the process: with 1, and one message on stderr, for an InputError
    or a full disk.

    What a stage writes is whole by then, so the process leaves without taking its thousands of modules apart,
    which would take more than a second.
    """
    code = 0
    try:
        main()
    except InputError as error:
        code = end_badly(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        code = end_badly(f"{error.filename or Path.cwd()}: no space left on the disk")
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_badly(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    restore_outputs(os.environ.get("DVC_STAGE"))
    return 1


def restore_outputs(stage: str | None) -> None:
    """Put back what dvc.lock records for a stage: DVC deletes outputs before it runs the stage."""
    lock = Path("dvc.lock")
    if not stage or not lock.exists():
        return
    outs = (yaml.safe_load(lock.read_text())["stages"].get(stage) or {}).get("outs", [])
    gone = [out for out in outs if not Path(out["path"]).exists()]
    if not gone:
        return
    cache = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=False).stdout.strip()
    for out in gone:
        stored = Path(cache, "files", "md5", out["md5"][:2], out["md5"][2:])
        if stored.is_file():
            Path(out["path"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, out["path"])
