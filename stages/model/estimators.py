"""Name → estimator, from a section of params.yaml. Knows estimators, nothing of files."""

import math
import warnings
from contextlib import suppress
from importlib import import_module
from sys import intern
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

from stages.model.auto import Size, apply_rules, list_candidates
from stages.model.catalogue import MODELS, Model, require_model
from stages.model.hyperparameters import find_faults
from stages.model.scaling import Independent, LogSkewed, Standardized, take_log, undo_log
from stages.shared.cli import InputError
from stages.shared.params import Fit

MOST_SEARCHED = 10_000  # rows that are enough to choose between a few values


def build_regressor(name: str, section: dict[str, Any], seed: int, threads: int) -> BaseEstimator:
    """The unfitted regressor of a model, with its section of params.yaml.

    Seed and threads go to every class that takes them, unless the section says otherwise.
    Raises InputError for a model, a parameter or a value that does not exist.
    """
    require_model(name)
    regressor = import_regressor(name)
    defaults = regressor().get_params()
    shared = {"random_state": seed, "n_jobs": threads, "copy_X": False}  # LogSkewed's array may be overwritten
    quiet = {"verbose": -1} if name == "lightgbm" else {}
    settings = {key: value for key, value in shared.items() if key in defaults} | quiet
    faults = find_faults(name, regressor, section, settings)
    if faults:
        raise InputError("; ".join(faults))
    # One object for equal names: pickle writes two of them in another way, and the bytes would depend on chance.
    return regressor(**{intern(key): value for key, value in (settings | section).items()})


def resolve_section(name: str, section: dict[str, Any], X: np.ndarray, y: np.ndarray, fit: Fit) -> dict[str, Any]:
    """A section with a value for each `auto`, from encoded training rows (n_rows, n_features) and their target.

    Raises InputError as `build_regressor`.
    """
    z = take_log(y) if fit.log_target else y
    known, grid = apply_rules(name, section, Size(*X.shape)), list_candidates(name, section, z)
    if not grid:
        return known
    regressor = build_regressor(name, {k: v for k, v in known.items() if k not in grid}, fit.seed, fit.threads)
    step = -(-len(X) // MOST_SEARCHED)
    return known | search(build_estimator(regressor, MODELS[name], log_target=False), grid, X[::step], z[::step], fit)


def search(pipeline: Pipeline, grid: dict[str, Any], X: np.ndarray, y: np.ndarray, fit: Fit) -> dict[str, Any]:
    """The values of a grid with the smallest cross-validated RMSE. What comes before the regressor is fitted once:
    it sees no target.
    """
    for _, transformer in pipeline.steps[:-1]:
        X = transformer.fit_transform(X)
    folds = KFold(min(5, len(X)), shuffle=True, random_state=fit.seed)
    found = GridSearchCV(pipeline["regressor"], grid, cv=folds, scoring="neg_root_mean_squared_error", refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the values that are not chosen
        return found.fit(X, y).best_params_


def import_regressor(name: str) -> Any:
    """The class of a model; imported here, so that a stage loads only the library that it needs."""
    return getattr(import_module(MODELS[name].module), MODELS[name].regressor)


def build_estimator(regressor: BaseEstimator, model: Model, log_target: bool) -> BaseEstimator:
    """Encoded features → the target: unskewed, scaled inputs for a linear model, and the log of the target to fit."""
    linear = [("unskew", LogSkewed()), ("scaler", Standardized()), ("independent", Independent())]
    estimator = Pipeline([*(linear if model.linear else []), ("regressor", regressor)])
    if not log_target:
        return estimator
    return TransformedTargetRegressor(estimator, func=take_log, inverse_func=undo_log, check_inverse=False)


def find_regressor(estimator: BaseEstimator) -> BaseEstimator:
    """The regressor inside a fitted estimator from encoded rows to the target."""
    if isinstance(estimator, TransformedTargetRegressor):
        estimator = estimator.regressor_
    return estimator["regressor"]


def predict_target(estimator: BaseEstimator, X: np.ndarray | pd.DataFrame) -> np.ndarray:
    """What a fitted estimator or pipeline predicts, (n_rows,). Raises InputError if it is not finite."""
    with suppress(ValueError):  # scikit-learn's, when the log to undo is none
        predicted = estimator.predict(X)
        if np.isfinite(predicted).all():
            return predicted
    raise InputError("the model predicts numbers that are not finite; look at its section of params.yaml")


def get_settings(estimator: BaseEstimator) -> dict[str, Any]:
    """All parameters of a fitted estimator that have a value; of a blend, its members' weights."""
    if hasattr(estimator, "members"):
        return {
            f"weight.{name}": weight for (name, _), weight in zip(estimator.members, estimator.weights, strict=True)
        }
    regressor = find_regressor(estimator)
    settings = regressor.get_params() | {"sample_rows": getattr(regressor, "sample_rows_", None)}
    return {k: v for k, v in settings.items() if v is not None and not (isinstance(v, float) and math.isnan(v))}


def round_estimator(estimator: BaseEstimator) -> None:
    """`round_coefficients` of a fitted estimator, or of each member of a blend."""
    for member in getattr(estimator, "fitted_", [estimator]):
        round_coefficients(find_regressor(member))


def round_coefficients(regressor: BaseEstimator) -> None:
    """Round a fitted linear model to seven digits of its largest coefficient; leave any other model as it is.

    BLAS kernels differ by processor in the digits behind: this makes the bytes of the model the same on all of them.
    What only tells how the solver went is dropped for the same reason.
    """
    if not hasattr(regressor, "coef_"):
        return
    largest = float(np.max(np.abs(regressor.coef_)))
    if not math.isfinite(largest):
        raise InputError(f"{type(regressor).__name__} finds weights that are not finite; look at params.yaml")
    places = 6 - math.floor(math.log10(largest)) if largest else 6
    regressor.coef_ = np.round(regressor.coef_, places) + 0.0  # which makes one zero of 0.0 and -0.0
    regressor.intercept_ = float(np.round(regressor.intercept_, places))
    for name in ("singular_", "dual_gap_"):
        vars(regressor).pop(name, None)
