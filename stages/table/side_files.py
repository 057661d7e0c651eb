"""Files of rows that a person should look at, beside those that a program reads."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would run if a cell of text began with it


class SideFile:
    """A CSV file of rows that a person should look at, which grows chunk by chunk."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path, self.count = path, 0
        pd.DataFrame(columns=columns).to_csv(path, index=False)

    def add(self, rows: pd.DataFrame) -> None:
        rows.map(escape_formula).to_csv(self.path, mode="a", header=False, index=False)
        self.count += len(rows)


def escape_formula(cell: object) -> object:
    """A cell that a spreadsheet shows and does not run."""
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def find_free(name: str, taken: Iterable[str]) -> str:
    """The name, with an underscore behind it for as long as it is a column's already."""
    while name in taken:
        name += "_"
    return name
