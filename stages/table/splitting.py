"""Which rows are kept for the test: drawn by chance, or apart in time or by group, as `data.split` says."""

import sys
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from stages.shared.cli import InputError
from stages.shared.params import Data
from stages.table.reading import join_some
from stages.table.values import to_days

SHARE = (0.5, 2.0)  # of the share that was asked for, beyond which a test of whole groups is told


def find_apart(table: pd.DataFrame, data: Data, dictionary: dict[str, Any]) -> pd.Series | None:
    """What keeps rows apart, (n_rows,), named `group` (the number of each row's group) or `time`; None if chance does.

    Raises InputError if the column is none to split by, or if a row lacks it.
    """
    if data.split == "random":
        return None
    ((kind, name),) = data.split.items()
    where, columns = f"params.yaml: data.split.{kind} = {name}", dictionary["columns"]
    usable = [c for c in columns if c not in (dictionary["target"], dictionary.get("id"))]
    if name not in usable:
        raise InputError(f"{where}: no column of the table to split by; it has {join_some(usable)}")
    missing = int(table[name].isna().sum())
    if missing:
        raise InputError(f"{where}: missing in {missing:,} row(s); each needs one")
    if kind == "group":
        return pd.Series(pd.factorize(table[name], sort=True)[0], table.index, name=kind)
    if columns[name]["type"] == "date":
        return pd.Series(to_days(table[name], columns[name]["format"]), table.index, name=kind)
    if columns[name]["type"] != "number":
        raise InputError(f"{where}: is of type {columns[name]['type']}; allowed are date and number")
    return table[name].rename(kind)


def split_rows(n_rows: int, data: Data, apart: pd.Series | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the training and of the test rows: shuffled with the seed, or with whole groups on one side, or
    with the last in time as the test. Raises InputError if either side has too few.
    """
    n_test = int(-(-n_rows * data.test_size // 1))
    require_both(n_rows - n_test, n_test, data)
    if apart is None:
        train, test = train_test_split(np.arange(n_rows), test_size=data.test_size, random_state=data.seed)
    elif apart.name == "time":
        order = np.argsort(apart.to_numpy(), kind="stable")
        train, test = order[:-n_test], order[-n_test:]
    else:
        train, test = split_groups(apart, data)
        require_both(len(train), len(test), data)
        if not SHARE[0] < (share := len(test) / n_rows / data.test_size) < SHARE[1]:
            print(
                f"warning: params.yaml: data.split.group: groups differ in size: {len(test):,} of {n_rows:,} rows are "
                f"the test, {share:.2g} times data.test_size; another data.seed draws others",
                file=sys.stderr,
            )
    return train, test


def require_both(n_train: int, n_test: int, data: Data) -> None:
    if min(n_train, n_test) < 2:
        raise InputError(
            f"{n_train + n_test} rows and data.test_size = {data.test_size} leave {n_train} to train on "
            f"and {n_test} to test on; each needs at least 2"
        )


def split_groups(groups: pd.Series, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the rows on each side; `data.test_size` is the share of the groups."""
    splitter = GroupShuffleSplit(1, test_size=data.test_size, random_state=data.seed)
    try:
        train, test = next(splitter.split(groups, groups=groups))
    except ValueError:
        raise InputError(
            f"params.yaml: data.split.group: {groups.nunique()} group(s) and data.test_size = {data.test_size} leave "
            "none on one of the sides; at least 2 are needed"
        ) from None
    return train, test
