"""Whether each row has an id of its own, however many rows there are."""

import numpy as np
import pandas as pd
from pandas.util import hash_array

from stages.table.checks import Finding, find_rows


def check_ids(ids: pd.Series, bad: np.ndarray, seen: "SeenIds") -> list[Finding]:
    """The rows whose id (a number, or text) is missing, not whole, or there already.

    bad: rows that have a fault already, (n_rows,), whose ids are not looked at.
    """
    broken = {"must not be missing": ids.isna().to_numpy()}
    if ids.dtype == float:
        broken["must be a whole number"] = ids.notna().to_numpy() & (ids != np.round(ids)).to_numpy()
    usable = np.flatnonzero(~np.any([*broken.values(), bad], axis=0))
    keys = ids.iloc[usable]
    whole = keys.to_numpy(np.int64) if ids.dtype == float else hash_array(keys.to_numpy(object)).view(np.int64)
    broken["must be unique"] = np.zeros(len(ids), dtype=bool)
    broken["must be unique"][usable[~seen.find_new(whole)]] = True
    return [f for rule, rows in broken.items() for f in find_rows(str(ids.name), rule, rows & ~bad, ids.tolist)]


class SeenIds:
    """The ids of all batches so far, as a few sorted runs: 8 bytes an id, where a set would take 80.

    Ids of text are known by their hash, also 8 bytes: of ten million, two agree by chance once in 300,000 files.
    """

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def find_new(self, ids: np.ndarray) -> np.ndarray:
        """Which of these ids (n_rows,) are new; they count as seen from now on."""
        new = np.zeros(len(ids), dtype=bool)
        new[np.unique(ids, return_index=True)[1]] = True
        for run in self.runs:
            new &= run[np.minimum(np.searchsorted(run, ids), len(run) - 1)] != ids
        if new.any():
            self.runs.append(np.sort(ids[new]))
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            self.runs.append(np.sort(np.concatenate([self.runs.pop(), self.runs.pop()]), kind="stable"))
        return new
