"""Linear models from moments: sums over the rows of each part, which add up, in place of the rows.

Four passes over the encoded training rows: ranges and means; central moments; means after the log; products of the
centred columns and the target, fold by fold. What is then solved has as many rows as there are features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client
from sklearn.base import BaseEstimator, clone

from stages.cluster.connection import map_parts
from stages.cluster.pieces import Piece, draw_folds, read_piece
from stages.model.auto import list_candidates
from stages.model.scaling import Independent, LogSkewed, Standardized

Sums = dict[str, np.ndarray]


@dataclass
class Moments:
    """What a linear model has to know of the training rows.

    mean (n_features,), of unskewed columns, and z_mean, of the target as it is fitted: what the sums are centred by.
    varied (n_features,): the columns in which enough rows have another value than the commonest. sums: for each fold
    its rows n, columns d, target t, products dd, dz, zz.
    """

    unskew: LogSkewed
    mean: np.ndarray
    z_mean: float
    varied: np.ndarray
    sums: Sums

    def add_up(self, folds: list[int]) -> Sums:
        return {name: values[folds].sum(axis=0) for name, values in self.sums.items()}


def sum_range(piece: Piece) -> Sums:
    X, z, _ = read_piece(piece)
    total = X.sum(axis=0, dtype=float)
    return {"n": np.array(len(X)), "x": total, "z": z.sum(), "low": X.min(axis=0), "high": X.max(axis=0)}


def sum_central(piece: Piece, mean: np.ndarray) -> Sums:
    X, _, _ = read_piece(piece)
    centred = X - mean
    squared = centred * centred
    return {"second": squared.sum(axis=0), "third": (squared * centred).sum(axis=0)}


def sum_unskewed(piece: Piece, unskew: LogSkewed) -> Sums:
    """Sums of the columns, and the values that stand in more than half of the rows, NaN where there is none."""
    X = unskew.transform(read_piece(piece)[0])
    median = np.array([np.median(column) for column in X.T])
    return {"x": X.sum(axis=0), "common": np.where(np.sum(median == X, axis=0) > len(X) / 2, median, np.nan)}


def list_common(found: list[np.ndarray]) -> np.ndarray:
    """The different values of each column (n_values, n_features), with NaN behind: a value that more than half of all
    rows have is that of more than half of some part.
    """
    values = np.sort(np.array(found), axis=0)  # NaN comes last
    values[1:][values[1:] == values[:-1]] = np.nan
    values = np.sort(values, axis=0)
    kept: np.ndarray = values[~np.isnan(values).all(axis=1)]
    return kept


def sum_products(
    piece: Piece, unskew: LogSkewed, means: tuple[np.ndarray, float], common: np.ndarray, n_folds: int
) -> Sums:
    """The sums of `Moments`, and in how many rows each column has each of the values that `list_common` lists."""
    X, z, ids = read_piece(piece)
    mean, z_mean = means
    X, z, folds = unskew.transform(X), z - z_mean, draw_folds(ids, piece.seed, n_folds)
    counts = np.array([np.sum(value == X, axis=0) for value in common])
    X -= mean
    parts = [(X[folds == fold], z[folds == fold]) for fold in range(n_folds)]
    sums = {
        "n": [len(d) for d, _ in parts],
        "d": [d.sum(axis=0) for d, _ in parts],
        "t": [t.sum() for _, t in parts],
        "dd": [d.T @ d for d, _ in parts],
        "dz": [d.T @ t for d, t in parts],
        "zz": [t @ t for _, t in parts],
    }
    return {name: np.array(values, dtype=float) for name, values in sums.items()} | {"common": counts}


def measure(client: Client, pieces: list[Piece], n_folds: int, what: str) -> Moments:
    """The moments of the training rows, in four passes."""
    ranges = map_parts(client, sum_range, pieces, what)
    n, x, z_sum = (sum(part[key] for part in ranges) for key in ("n", "x", "z"))
    central = map_parts(client, sum_central, pieces, what, mean=x / n)
    variance, third = (sum(part[key] for part in central) / n for key in ("second", "third"))
    unskew = LogSkewed().fit_moments(
        np.min([part["low"] for part in ranges], axis=0).astype(float),
        np.max([part["high"] for part in ranges], axis=0).astype(float),
        np.divide(third, variance**1.5, out=np.zeros_like(third), where=variance > 0),
    )
    unskewed = map_parts(client, sum_unskewed, pieces, what, unskew=unskew)
    mean, z_mean = np.sum([part["x"] for part in unskewed], axis=0) / n, float(z_sum / n)
    common = list_common([part["common"] for part in unskewed])
    shared = {"unskew": unskew, "means": (mean, z_mean), "common": common, "n_folds": n_folds}
    products = map_parts(client, sum_products, pieces, what, **shared)
    sums: Sums = {key: np.sum([part[key] for part in products], axis=0) for key in products[0]}
    commonest = sums.pop("common").max(axis=0, initial=0)
    return Moments(unskew, mean, z_mean, n - commonest >= min(Standardized().least, n // 10), sums)


def fit_linear(regressor: BaseEstimator, moments: Moments, folds: list[int]) -> list[tuple[str, BaseEstimator]]:
    """The steps of a linear model, fitted on the rows of some folds.

    The regressor of scikit-learn is fitted on n_features + 1 rows that have the same products as all of the rows: the
    least squares are the same, and so is every penalty.
    """
    s: dict[str, Any] = moments.add_up(folds)
    n, shift, drift = s["n"], s["d"] / s["n"], s["t"] / s["n"]
    products = s["dd"] - n * np.outer(shift, shift)
    spread = np.sqrt(np.maximum(np.diag(products), 0) / n)
    scaler, independent = Standardized(), Independent()
    scaler.mean_ = moments.mean + shift
    scaler.scale_ = np.where(moments.varied & (spread > 0), spread, np.inf)
    products = products / np.outer(scaler.scale_, scaler.scale_)
    independent.fit_products(products)
    kept = independent.kept_
    xz = np.where(kept, (s["dz"] - n * shift * drift) / scaler.scale_, 0)
    X, z = make_rows(np.where(np.outer(kept, kept), products, 0), xz, float(s["zz"] - n * drift**2))
    scale = np.sqrt(len(X) / n) if type(regressor).__name__ == "Lasso" else 1.0  # its errors are a mean, not a sum
    regressor = clone(regressor)
    intercept = regressor.get_params()["fit_intercept"]
    regressor.set_params(fit_intercept=False).fit(X * scale, z * scale)
    regressor.set_params(fit_intercept=intercept)
    regressor.intercept_ = moments.z_mean + drift if intercept else 0.0
    return [("unskew", moments.unskew), ("scaler", scaler), ("independent", independent), ("regressor", regressor)]


def make_rows(products: np.ndarray, xz: np.ndarray, zz: float) -> tuple[np.ndarray, np.ndarray]:
    """X (n_features + 1, n_features) and z with X'X, X'z and z'z as given; the last row is what no column explains."""
    values, vectors = np.linalg.eigh(products)
    used = values > values.max(initial=0) * 1e-12
    root: np.ndarray = np.sqrt(np.where(used, values, 1))
    X = np.where(used, root, 0)[:, None] * vectors.T
    z = np.where(used, vectors.T @ xz / root, 0)
    rest = max(float(zz - z @ z), 0.0) ** 0.5
    return np.vstack([X, np.zeros(len(xz))]), np.append(z, rest)


def average_errors(steps: list[tuple[str, BaseEstimator]], moments: Moments, fold: int) -> float:
    """The mean squared error of fitted steps on a fold that they have not seen, from its sums alone."""
    _, (_, scaler), (_, independent), (_, regressor) = steps
    s: dict[str, Any] = moments.add_up([fold])
    weights = np.where(independent.kept_, regressor.coef_ / scaler.scale_, 0)
    base = regressor.intercept_ - moments.z_mean - (scaler.mean_ - moments.mean) @ weights
    total = s["zz"] - 2 * (base * s["t"] + weights @ s["dz"]) + s["n"] * base**2
    return float((total + 2 * base * (s["d"] @ weights) + weights @ s["dd"] @ weights) / s["n"])


def choose(name: str, section: dict[str, Any], regressor: BaseEstimator, moments: Moments) -> dict[str, Any]:
    """The value with the smallest cross-validated RMSE for each `auto` of a section, from the folds' sums."""
    folds = [*range(len(moments.sums["n"]))]
    everything = moments.add_up(folds)
    spread = float(everything["zz"] / everything["n"]) ** 0.5
    best, grid = {}, list_candidates(name, section, np.array([-spread, spread]))
    for key, values in grid.items():
        errors = []
        for value in values:
            tried = clone(regressor).set_params(**{key: value})
            fitted = [fit_linear(tried, moments, [f for f in folds if f != fold]) for fold in folds]
            errors.append(np.mean([average_errors(s, moments, f) ** 0.5 for f, s in zip(folds, fitted, strict=True)]))
        best[key] = values[int(np.argmin(errors))]
    return best
