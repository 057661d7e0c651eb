"""The table to learn from, held against its dictionary: read it, check it, report every fault at once."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.shared.cli import InputError
from stages.table.checks import (
    Finding,
    Rule,
    SeenIds,
    Tally,
    check_batch,
    check_ids,
    find_rows,
    flag_rows,
    holds_numbers,
    make_rules,
    parse_numbers,
)
from stages.table.reading import find_dialect, read_batches


def read_table(
    path: str, dictionary: dict[str, Any], log_target: bool = True, beside: Sequence[str] = ()
) -> pd.DataFrame:
    """The table with its dictionary's types, indexed by id, in the order of the dictionary, which lists all columns.

    Columns that nothing is learned from, but for those named `beside`, and rows without a target are left out.
    Raises InputError that lists every fault with column, rule and example row ids.
    """
    numbers = {name: holds_numbers(name, dictionary) for name in choose_columns(dictionary, beside)}
    tally, lines = Tally(), list[str]()
    if not set(numbers) - {dictionary["target"], dictionary.get("id")}:
        raise InputError(f"{path}: no columns to learn from beside {' and '.join(numbers)}")
    batches = [batch for batch, _ in read_batches(path, numbers, lines.append, find_dialect(dictionary))]
    batch = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]
    rules = make_rules(numbers, dictionary)
    batch = drop_without_target(batch, path, next(rule for rule in rules if rule.name == dictionary["target"]))
    rows, faults, marks = check_batch(batch, rules)
    faults += marks + check_target(rows, dictionary["target"], log_target)
    faults += [
        Finding(name, "holds no value at all", np.arange(0), []) for name in rows if not rows[name].notna().any()
    ]
    ids = pd.Series(np.arange(1, len(rows) + 1), name="row")
    if "id" in dictionary:
        ids = rows[dictionary["id"]]
        faults += check_ids(ids, flag_rows(faults, len(rows)), SeenIds())
    tally.add(faults, ids.map("{:.16g}".format) if ids.dtype == float else ids)
    tally.add_lines(lines)
    if tally.rules:
        raise InputError(f"{path}: {len(tally.rules)} fault(s), nothing written", tally.describe())
    rows = rows.astype({name: "str" for name, number in numbers.items() if not number})
    if "id" not in dictionary:
        return rows
    return rows.set_index(ids.astype("int64" if ids.dtype == float else "str")).drop(columns=ids.name)


def choose_columns(dictionary: dict[str, Any], beside: Sequence[str] = ()) -> list[str]:
    """The columns that a model rests on, with target and id: all but text, and what is neither a feature nor needed
    for one, or named.
    """
    columns, derived = dictionary["columns"], dictionary.get("derived", {})
    needed = {*beside, dictionary["target"], dictionary.get("id"), *(c.get("fill_by") for c in columns.values())}
    for formula in derived.values():
        (operands,) = formula.values()
        needed |= {operands} if isinstance(operands, str) else {*operands}
    return [name for name, c in columns.items() if name in needed or (c.get("feature", True) and c["type"] != "text")]


def drop_without_target(batch: pa.RecordBatch, path: str, rule: Rule) -> pa.RecordBatch:
    """The rows that have a target; how many have none is told on stderr. Raises InputError if none has."""
    values, wrong = parse_numbers(batch[rule.name], rule)
    kept = ~np.isnan(values) | wrong
    if not kept.any():
        raise InputError(f"{path}: {rule.name}: holds no value at all")
    if kept.all():
        return batch
    print(f"warning: {path}: {np.sum(~kept):,} row(s) without {rule.name} are left out", file=sys.stderr)
    return batch.filter(pa.array(kept))


def check_target(rows: pd.DataFrame, target: str, log_target: bool) -> list[Finding]:
    values = rows[target]
    low = values.to_numpy() <= 0 if log_target else np.zeros(len(rows), dtype=bool)
    return find_rows(target, "must be above zero for fit.log_target: true (auto decides by itself)", low, values.tolist)
