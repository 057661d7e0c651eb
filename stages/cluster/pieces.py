"""The encoded rows of one part, and the hashes that say in which fold, or whether in a sample, a row is."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.util import hash_array

from stages.model.scaling import take_log


class Piece(NamedTuple):
    """Where the features and the target of some rows are, whether its log is fitted, and the seed of what is drawn."""

    X: Path
    y: Path
    log_target: bool
    seed: int


def read_piece(piece: Piece) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """Features, float32 (n_rows, n_features), the target as it is fitted, and ids."""
    X, y = pd.read_parquet(piece.X), pd.read_parquet(piece.y)["target"].to_numpy()
    return X.to_numpy(), take_log(y).astype(float) if piece.log_target else y, X.index


def hash_ids(ids: pd.Index) -> np.ndarray:
    """uint64 (n_rows,)."""
    return hash_array(ids.to_numpy(np.int64).view(np.uint64) if ids.dtype.kind == "i" else ids.to_numpy(object))


def draw(ids: pd.Index, seed: int, what: str) -> np.ndarray:
    """A number from 0 to 1 for each row, (n_rows,), by a hash of its id and the seed, for one purpose."""
    return hash_array(hash_ids(ids) + hash_array(np.array([f"{seed} {what}"], dtype=object))) / 2.0**64


def draw_folds(ids: pd.Index, seed: int, n_folds: int) -> np.ndarray:
    """The fold of each row, (n_rows,)."""
    return np.minimum(draw(ids, seed, "fold") * n_folds, n_folds - 1).astype(int)
