"""The table to learn from, held against its dictionary: read it, check it, report every fault at once."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.shared.cli import InputError
from stages.table.checks import (
    Finding,
    SeenIds,
    Tally,
    check_batch,
    check_ids,
    find_rows,
    flag_rows,
    holds_numbers,
    make_rules,
)
from stages.table.reading import find_dialect, read_batches


def read_table(path: str, dictionary: dict[str, Any], log_target: bool = True) -> pd.DataFrame:
    """The table with its dictionary's types, indexed by id, in the order of the dictionary, which lists all columns.

    Those that nothing is learned from are left out. Raises InputError that lists every fault with column, rule and
    example row ids.
    """
    numbers = {name: holds_numbers(name, dictionary) for name in choose_columns(dictionary)}
    tally, lines = Tally(), list[str]()
    if not set(numbers) - {dictionary["target"], dictionary.get("id")}:
        raise InputError(f"{path}: no columns to learn from beside {' and '.join(numbers)}")
    batches = [batch for batch, _ in read_batches(path, numbers, lines.append, find_dialect(dictionary))]
    batch = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]
    rows, faults, marks = check_batch(batch, make_rules(numbers, dictionary))
    faults += marks + check_target(rows, dictionary["target"], log_target)
    faults += [
        Finding(name, "holds no value at all", np.arange(0), []) for name in rows if not rows[name].notna().any()
    ]
    ids = pd.Series(np.arange(1, len(rows) + 1), name="row")
    if "id" in dictionary:
        ids = rows[dictionary["id"]]
        faults += check_ids(str(ids.name), ids.to_numpy(), flag_rows(faults, len(rows)), SeenIds())
    tally.add(faults, ids.map("{:g}".format))
    tally.add_lines(lines)
    if tally.rules:
        raise InputError(f"{path}: {len(tally.rules)} fault(s), nothing written", tally.describe())
    rows = rows.astype({name: "str" for name, number in numbers.items() if not number})
    return rows.set_index(ids.astype("int64")).drop(columns=ids.name) if "id" in dictionary else rows


def choose_columns(dictionary: dict[str, Any]) -> list[str]:
    """The columns that a model rests on, with target and id: all but text, and what is neither a feature nor needed
    for one.
    """
    columns, derived = dictionary["columns"], dictionary.get("derived", {})
    needed = {dictionary["target"], dictionary.get("id"), *(c.get("fill_by") for c in columns.values())}
    for formula in derived.values():
        (operands,) = formula.values()
        needed |= {operands} if isinstance(operands, str) else {*operands}
    return [name for name, c in columns.items() if name in needed or (c.get("feature", True) and c["type"] != "text")]


def check_target(rows: pd.DataFrame, target: str, log_target: bool) -> list[Finding]:
    values = rows[target]
    missing = find_rows(target, "must not be missing", values.isna().to_numpy(), values.tolist)
    low = values.to_numpy() <= 0 if log_target else np.zeros(len(rows), dtype=bool)
    return missing + find_rows(target, "must be above zero", low, values.tolist)
