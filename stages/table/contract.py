"""The table to learn from, held against its dictionary: read it, check it, report every fault at once."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.shared.cli import InputError
from stages.table.checks import (
    Finding,
    Rule,
    Tally,
    check_batch,
    find_rows,
    flag_rows,
    holds_numbers,
    make_rules,
    parse_numbers,
)
from stages.table.ids import SeenIds, check_ids
from stages.table.reading import find_dialect, read_batches


@dataclass
class Checked:
    """Some rows of a table with their types, indexed by id, none if there is a fault; the faults; how many rows have no
    target, and are left out; and which columns hold a value.
    """

    rows: pd.DataFrame
    faults: Tally
    without_target: int
    filled: set[str]


def read_table(
    path: str, dictionary: dict[str, Any], log_target: bool = True, beside: Sequence[str] = ()
) -> pd.DataFrame:
    """The table with its dictionary's types, indexed by id, in the order of the dictionary, which lists all columns.

    Columns that nothing is learned from, but for those named `beside`, and rows without a target are left out.
    Raises InputError that lists every fault with column, rule and example row ids.
    """
    checked = check_part(path, dictionary, log_target, beside)
    target = dictionary["target"]
    require_whole(path, [checked], choose_columns(dictionary, beside), target)
    if np.ptp(checked.rows[target].to_numpy()) == 0:
        raise InputError(f"{path}: {target}: holds {checked.rows[target].iloc[0]:g} in every row; nothing to learn")
    return checked.rows


def require_whole(path: str, parts: Sequence[Checked], names: Sequence[str], target: str) -> None:
    """Raises InputError with every fault of all parts of a table. Rows that are left out are told on stderr."""
    filled, without = set[str]().union(*(part.filled for part in parts)), sum(part.without_target for part in parts)
    faults = Tally(parts[0].faults.named)
    for part in parts:
        faults.merge(part.faults)
    if target not in filled and not faults.rules:
        raise InputError(f"{path}: {target}: holds no value at all")
    if without:
        print(f"warning: {path}: {without:,} row(s) without {target} are left out", file=sys.stderr)
    empty = [Finding(name, "holds no value at all", np.arange(0), []) for name in names if name not in filled]
    faults.add(empty, pd.Index([]))
    if faults.rules:
        raise InputError(f"{path}: {len(faults.rules)} fault(s), nothing written", faults.describe())


def check_part(
    path: str,
    dictionary: dict[str, Any],
    log_target: bool = True,
    beside: Sequence[str] = (),
    *,
    may_be_empty: bool = False,
) -> Checked:
    """A table, or a part of one, held against its dictionary. Raises InputError if it cannot be read."""
    numbers = {name: holds_numbers(name, dictionary) for name in choose_columns(dictionary, beside)}
    target, tally, lines = dictionary["target"], Tally("id" if "id" in dictionary else "row"), list[str]()
    if not set(numbers) - {target, dictionary.get("id")}:
        raise InputError(f"{path}: no columns to learn from{' beside ' if numbers else ''}{' and '.join(numbers)}")
    read = read_batches(path, numbers, lines.append, find_dialect(dictionary), may_be_empty=may_be_empty)
    batches = [batch for batch, _ in read if len(batch)]
    tally.add_lines(lines)
    if not batches:
        return Checked(pd.DataFrame(), tally, 0, set())
    batch = join_batches(batches)
    rules, n_rows = make_rules(numbers, dictionary), len(batch)
    kept = np.ones(n_rows, dtype=bool)
    if has_target := target in numbers:  # which rows to predict have not
        kept = find_targets(batch, next(rule for rule in rules if rule.name == target))
    rows, faults, marks = check_batch(batch if kept.all() else batch.filter(pa.array(kept)), rules)
    faults += marks + (check_target(rows, target, log_target) if has_target else [])
    ids = pd.Series(np.flatnonzero(kept) + 1, name="row")  # as the file has them
    if "id" in dictionary:
        ids = rows[dictionary["id"]]
        faults += check_ids(ids, flag_rows(faults, len(rows)), SeenIds())
    tally.add(faults, ids.map("{:.16g}".format) if ids.dtype == float else ids)
    filled = {name for name in rows if rows[name].notna().any()}
    if tally.rules:
        return Checked(pd.DataFrame(), tally, n_rows - len(rows), filled)
    rows = rows.astype({name: "str" for name, number in numbers.items() if not number})
    if "id" in dictionary:
        rows = rows.set_index(ids.astype("int64" if ids.dtype == float else "str")).drop(columns=ids.name)
    else:
        rows = rows.set_axis(ids.to_numpy(), axis=0)
    return Checked(rows, tally, n_rows - len(rows), filled)


def join_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows as one batch, also where a column of text is larger than 2 GB."""
    table = pa.Table.from_batches(batches).unify_dictionaries()
    joined = table.combine_chunks().to_batches()
    if len(joined) > 1:
        large = [f.with_type(pa.large_string()) if pa.types.is_string(f.type) else f for f in table.schema]
        joined = table.cast(pa.schema(large)).combine_chunks().to_batches()
    (batch,) = joined
    return batch


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


def find_targets(batch: pa.RecordBatch, rule: Rule) -> np.ndarray:
    """Which rows, (n_rows,), have a target, or a fault in its place."""
    values, wrong = parse_numbers(batch[rule.name], rule)
    return ~np.isnan(values) | wrong


def check_target(rows: pd.DataFrame, target: str, log_target: bool) -> list[Finding]:
    values = rows[target]
    low = values.to_numpy() <= 0 if log_target else np.zeros(len(rows), dtype=bool)
    return find_rows(target, "must be above zero for fit.log_target: true (auto decides by itself)", low, values.tolist)
