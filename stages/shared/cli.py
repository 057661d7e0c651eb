"""The edge between a command and the terminal: `--help`, exit codes, and one clear line for bad input."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn


class InputError(Exception):
    """Something a user can put right: the message says what, where, and what is allowed."""


class Parser(argparse.ArgumentParser):
    """Arguments of one command; a wrong one is one line, as any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def make_parser(module: str, doc: str | None, example: str = "") -> Parser:
    """The parser of `python -m stages.<module>`: its docstring as help, and an example below."""
    return Parser(
        prog=f"python -m stages.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"example: python -m stages.{module} {example}".rstrip(),
    )


def run_command(main: Callable[[], None]) -> NoReturn:
    """Run a command's main and end the process: with 1 and one message on stderr for bad input or a full disk.

    What a command writes is whole by then, so the process leaves without taking its thousands of modules apart,
    which would take more than a second. Any other exception is a bug, and is shown with its traceback.
    """
    sys.excepthook = show_bug
    code = 0
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"error: {error.filename or Path.cwd()}: no space left on the disk", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print("error: this is a bug of the pipeline, not of your input; earlier outputs are untouched", file=sys.stderr)
    sys.__excepthook__(kind, error, trace)
