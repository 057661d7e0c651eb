"""The edge between a command and the terminal: `--help`, exit codes, and one clear line for bad input."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import NoReturn

DISK = {  # what no code can help
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "no space left for this user",
    errno.EROFS: "must be writable, and is not",
    errno.EACCES: "must be open to this user, and is not",
    errno.EPERM: "must be open to this user, and is not",
    errno.EIO: "the disk cannot be read or written",
}
LONGEST_LINE = 1000  # characters of a message


class InputError(Exception):
    """Something a user can put right: the message says what, where, and what is allowed, with a line for each fault."""

    def __init__(self, message: str, faults: Iterable[str] = ()) -> None:
        super().__init__(message, [*faults])  # as they are, for a process that hands the error on

    def __str__(self) -> str:
        message, faults = self.args
        return "\n".join([show_line(message), *(f"  {show_line(fault)}" for fault in faults)])


def show_line(text: str) -> str:
    """Text as one line, short enough to read, in which nothing moves the cursor or cannot be encoded."""
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: LONGEST_LINE + 1])
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 4]} ..."


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
    """Run a command's main and end the process: with 1 and one message on stderr for bad input or a failing disk.

    What a command writes is whole by then, so the process leaves without taking its thousands of modules apart,
    which would take more than a second. Any other exception is a bug, and is shown with its traceback.
    """
    sys.excepthook = show_bug
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # for a name that is no text
    code = 0
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(f"error: {error.filename or Path.cwd()}: {DISK[error.errno]}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print("error: this is a bug of the pipeline, not of your input; earlier outputs are untouched", file=sys.stderr)
    sys.__excepthook__(kind, error, trace)
