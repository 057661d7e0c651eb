"""What is wrong with a model's section of params.yaml, in the words of the library that would fit it."""

import math
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from stages.model.auto import AUTO, list_rules

UNFIT = (ValueError, TypeError, ArithmeticError, RuntimeError, AttributeError, MemoryError)  # what libraries raise
THREADS = re.compile(r"n_jobs|nthreads?|num_threads?")
ALLOWED_THREADS = [-1, *range(1, (os.cpu_count() or 1) + 1)]
SHARE = re.compile(r"subsample|colsample_by\w+")


def find_faults(name: str, regressor: Any, section: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """A line for each key of a section that its class does not take: the key, its value and what is allowed.

    The library says so itself, in a fit of one tree on twenty rows: of all parameters together, then of each alone.
    """
    odd = {key: reason for key, value in section.items() if (reason := check_value(regressor, key, value))}
    together = "" if odd else try_fit(regressor, settings | section)
    if together:
        alone = {key: try_fit(regressor, settings | {key: value}) for key, value in section.items()}
        odd = {key: reason for key, reason in alone.items() if reason}
    if together and not odd:
        return [f"params.yaml: {name}: {together}"]
    known = f"; auto may stand for {', '.join(list_rules(name)) or 'nothing'} here"
    return [
        f"params.yaml: {name}.{key} = {section[key]!r:.60}: {reason}{known if section[key] == AUTO else ''}"
        for key, reason in odd.items()
    ]


def check_value(regressor: Any, key: str, value: Any) -> str:
    """What the libraries let pass, or say unclearly; nothing if they will do."""
    defaults = regressor().get_params()
    if key not in defaults and not is_lightgbm(regressor):  # which takes more than its signature names
        return f"unknown parameter of {regressor.__name__}; known: {', '.join(sorted(defaults))}"
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return f"YAML reads {value} as text; write it with a point and a sign, as in 1.0e-3"
    if isinstance(value, bool) and key != "verbose" and not isinstance(defaults.get(key, value), bool):
        return "must not be true or false"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, int) and abs(value) > 2**63:
        return "must be a number of at most 18 digits"
    if THREADS.fullmatch(key) and value is not None and not (isinstance(value, int) and value in ALLOWED_THREADS):
        return f"must be a whole number from 1 to {ALLOWED_THREADS[-1]}, the cores here, or -1 for all of them"
    if key == "n_estimators" and not (isinstance(value, int) and value > 0):
        return "must be a whole number, at least 1"
    if SHARE.fullmatch(key) and value == 0:
        return "must be above 0"
    return ""


def try_fit(regressor: Any, parameters: dict[str, Any]) -> str:
    """Why a class cannot be fitted with these parameters, in its library's words; nothing if it can."""
    few = {key: 1 for key in ("n_estimators", "n_jobs") if key in regressor().get_params()}
    X, y = np.arange(60.0).reshape(20, 3) % 7, np.linspace(1.0, 2.0, 20)
    raised = (*UNFIT, sys.modules["lightgbm"].basic.LightGBMError) if is_lightgbm(regressor) else UNFIT
    try:
        with (
            warnings.catch_warnings(),
            threadpool_limits(1),
            listen(regressor) as heard,
        ):  # a pool does not survive a fork
            warnings.simplefilter("ignore")
            regressor(**parameters | few | ({"verbose": 0} if is_lightgbm(regressor) else {})).fit(X, y)
    except raised as error:
        return shorten(str(error))
    return next((shorten(text) for text in heard if "Unknown parameter" in text), "")


def is_lightgbm(regressor: Any) -> bool:
    return regressor.__name__ == "LGBMRegressor"


@contextmanager
def listen(regressor: Any) -> Iterator[list[str]]:
    """What LightGBM has to say during the block, which it would otherwise print; nothing for any other class."""
    heard: list[str] = []
    if not is_lightgbm(regressor):
        yield heard
        return
    lightgbm = sys.modules["lightgbm"]
    lightgbm.register_logger(SimpleNamespace(info=heard.append, warning=heard.append))
    terminal, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)  # its C++ prints what is fatal on its own
    os.dup2(nothing, 2)
    try:
        yield heard
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nothing)
        lightgbm.register_logger(SimpleNamespace(info=print, warning=print))


def shorten(text: str) -> str:
    """The first line of a library's message, without its times, places in C++ and the value it got."""
    line = text.strip().partition("\n")[0]
    line = re.sub(r"^\[[\d:]+\] \S+: |^\[LightGBM\] \[\w+\] | at /\S+, line \d+ \.| Got .* instead\.$", "", line)
    line = re.sub(r"^The '\w+' parameter of \w+ (must be .*?)\.?$", r"\1", line)
    return line[:200] or "cannot be fitted"
