"""The table to learn from, held against its dictionary: read it, check it, report every fault at once."""

import sys
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
    is_numeric,
    make_rules,
)
from stages.table.reading import join_some, read_batches, read_names


def read_table(path: str, dictionary: dict[str, Any], log_target: bool = True) -> pd.DataFrame:
    """The table with its dictionary's types, indexed by id, in the dictionary's column order.

    Columns that the dictionary does not know are left out with a warning; if it lists none, all are taken, and a
    column is one of numbers if nothing else stands in it. Raises InputError that lists every fault with column,
    rule and example row ids.
    """
    numbers = choose_columns(read_names(path), path, dictionary)
    tally, lines = Tally(), list[str]()
    batches = [
        batch for batch, _ in read_batches(path, {n: bool(number) for n, number in numbers.items()}, lines.append)
    ]
    batch = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]
    kinds = {name: is_number_column(batch[name]) if number is None else number for name, number in numbers.items()}
    rows, faults, marks = check_batch(batch, make_rules(kinds, dictionary))
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
    rows = rows.astype({name: "str" for name, number in kinds.items() if not number})
    return rows.set_index(ids.astype("int64")).drop(columns=ids.name) if "id" in dictionary else rows


def choose_columns(found: list[str], path: str, dictionary: dict[str, Any]) -> dict[str, bool | None]:
    """The columns to read, and whether each must hold numbers (None: as it turns out)."""
    listed = list(dictionary["columns"]) or [dictionary[key] for key in ("target", "id") if key in dictionary]
    missing = [name for name in listed if name not in found]
    if missing:
        raise InputError(f"{path}: missing columns: {join_some(missing)}; found: {join_some(found)}")
    extra = [name for name in found if name not in listed] if dictionary["columns"] else []
    if extra:
        print(f"warning: {path}: columns not in the dictionary are left out: {join_some(extra)}", file=sys.stderr)
    names = listed if dictionary["columns"] else found
    if not set(names) - {dictionary["target"], dictionary.get("id")}:
        raise InputError(f"{path}: no columns to learn from beside {' and '.join(listed)}")
    return {name: holds_numbers(name, dictionary) for name in names}


def is_number_column(array: pa.Array) -> bool:
    """Whether a column that the dictionary does not describe holds numbers and nothing else."""
    if not pa.types.is_dictionary(array.type):
        return is_numeric(array.type)
    try:
        array.dictionary.cast(pa.float64())
    except pa.ArrowException:
        return False
    return True


def check_target(rows: pd.DataFrame, target: str, log_target: bool) -> list[Finding]:
    values = rows[target]
    missing = find_rows(target, "must not be missing", values.isna().to_numpy(), values.tolist)
    low = values.to_numpy() <= 0 if log_target else np.zeros(len(rows), dtype=bool)
    return missing + find_rows(target, "must be above zero", low, values.tolist)
