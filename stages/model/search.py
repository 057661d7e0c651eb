"""What each `auto` of a model's section stands for on a table: by its size, or by cross-validation on it."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from stages.model.auto import Size, apply_rules, list_candidates
from stages.model.catalogue import MODELS
from stages.model.estimators import build_estimator, build_regressor
from stages.model.folds import Folds, draw_folds
from stages.model.scaling import take_log
from stages.shared.params import Fit

MOST_ROWS = 10_000  # that are enough to choose between a few values
MOST_FOLDS = 5


class Training(NamedTuple):
    """Encoded training rows (n_rows, n_features), their target (n_rows,), and what `read_apart` says of them."""

    X: np.ndarray
    y: np.ndarray
    apart: pd.Series | None = None


def resolve_section(name: str, section: dict[str, Any], training: Training, fit: Fit) -> dict[str, Any]:
    """A section with a value for each `auto`. Raises InputError as `build_regressor`."""
    X, y, apart = training
    z = take_log(y) if fit.log_target else y
    known, grid = apply_rules(name, section, Size(*X.shape)), list_candidates(name, section, z)
    if not grid:
        return known
    regressor = build_regressor(name, {k: v for k, v in known.items() if k not in grid}, fit.seed, fit.threads)
    pipeline, step = build_estimator(regressor, MODELS[name], log_target=False), -(-len(X) // MOST_ROWS)
    folds = choose_folds(len(X[::step]), fit, None if apart is None else apart.iloc[::step])
    return known | search(pipeline, grid, X[::step], z[::step], folds)


def choose_folds(n_rows: int, fit: Fit, apart: pd.Series | None) -> Folds:
    """As many folds as there are rows or groups for, up to MOST_FOLDS; shuffled ones if all rows are of one group."""
    n_units = apart.nunique() if apart is not None and apart.name == "group" else n_rows
    if n_units < 2:
        apart, n_units = None, n_rows
    return draw_folds(n_rows, fit.model_copy(update={"cv_folds": min(MOST_FOLDS, n_units)}), apart)


def search(pipeline: Pipeline, grid: dict[str, Any], X: np.ndarray, y: np.ndarray, folds: Folds) -> dict[str, Any]:
    """The values of a grid with the smallest cross-validated RMSE. What comes before the regressor is fitted once:
    it sees no target.
    """
    for _, transformer in pipeline.steps[:-1]:
        X = transformer.fit_transform(X)
    found = GridSearchCV(pipeline["regressor"], grid, cv=folds, scoring="neg_root_mean_squared_error", refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the values that are not chosen
        return found.fit(X, y).best_params_
