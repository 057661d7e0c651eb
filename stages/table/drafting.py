"""A dictionary as YAML for a person to read and correct: one line for a column, with what it holds beside it."""

import math
import re
from textwrap import wrap
from typing import Any

import yaml

from stages.table.checks import LARGEST

WIDTH = 120
PLAIN = re.compile(r"[^\W\d_][\w .()/+-]*")  # text that no reader of YAML takes for anything else
DOUBTFUL = ("y", "n", "nan", "inf", "infinity")  # but these, which some do


def show_text(text: str) -> str:
    """A string as YAML, quoted unless it is plain to every reader."""
    plain = PLAIN.fullmatch(text) and text == text.strip() and text.lower() not in DOUBTFUL
    if plain and yaml.safe_load(text) == text:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf).strip()


def show_value(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str):
        return show_text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(show_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {show_value(inner)}' for key, inner in value.items())}}}"
    return yaml.safe_dump(value).partition("\n")[0]


def show_comment(text: str) -> str:
    """Text that can stand in a comment: nothing in it ends the line."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def show_entry(name: str, column: dict[str, Any], note: str = "") -> str:
    """The lines of a column under `columns`, with a note beside or above it; long ones a key a line."""
    line = f"  {show_text(name)}: {show_value(column)}"
    said = f"  # {show_comment(note)}" if note else ""
    if len(line + said) <= WIDTH:
        return line + said
    above = [f"  # {part}" for part in wrap(show_comment(note), WIDTH - 4)]
    if len(line) <= WIDTH:
        return "\n".join([*above, line])
    lines = [*above, f"  {show_text(name)}:"]
    for key, value in column.items():
        if isinstance(value, list):
            lines += break_list(f"    {key}: [", [show_value(item) for item in value])
        else:
            lines.append(f"    {key}: {show_value(value)}")
    return "\n".join(lines)


def break_list(start: str, items: list[str]) -> list[str]:
    """A list over as many lines as it takes, indented below its first item."""
    lines, line = [], start
    for position, item in enumerate(items):
        part = item + ("]" if position == len(items) - 1 else ", ")
        if len(line) > len(start) and len(line + part.rstrip()) > WIDTH:
            lines.append(line.rstrip())
            line = " " * len(start)
        line += part
    return [*lines, line]


def widen(low: float, high: float) -> list[Any]:
    """A range with half its width as slack on each side, in round numbers, which crosses zero only if the values do."""
    slack = (high - low) / 2 or abs(high) or 1.0
    step = 10.0 ** (math.floor(math.log10(slack)) - 1)
    below = 0.0 if low >= 0 > low - slack else math.floor((low - slack) / step) * step
    above = 0.0 if low < 0 and high <= 0 < high + slack else math.ceil((high + slack) / step) * step
    return [round_bound(min(below, low), low, -1), round_bound(max(above, high), high, 1)]


def round_bound(bound: float, value: float, outward: int) -> float | int | None:
    """Without the dust of binary fractions, unless that leaves the value out; none where no number may reach it."""
    rounded = float(f"{bound:.12g}")
    if (rounded - value) * outward < 0:
        rounded = bound
    if abs(rounded) >= LARGEST:
        return None
    return int(rounded) if rounded.is_integer() else rounded
