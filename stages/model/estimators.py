"""Name → estimator, from a section of params.yaml. Knows estimators, nothing of files."""

import math
from contextlib import suppress
from importlib import import_module
from sys import intern
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline

from stages.model.catalogue import MODELS, Model, require_model
from stages.model.hyperparameters import find_faults
from stages.model.scaling import Independent, LogSkewed, Standardized, take_log, undo_log
from stages.shared.cli import InputError


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


def list_regressors(estimator: BaseEstimator) -> list[BaseEstimator]:
    """The regressor inside a fitted estimator, or those inside the members of a blend."""
    return [find_regressor(member) for member in getattr(estimator, "fitted_", [estimator])]


def round_estimator(estimator: BaseEstimator) -> None:
    """`round_coefficients` of all regressors inside a fitted estimator."""
    for regressor in list_regressors(estimator):
        round_coefficients(regressor)


def round_coefficients(regressor: BaseEstimator) -> None:
    """Round a fitted linear model to seven digits of its largest coefficient; leave any other model as it is.

    BLAS kernels differ by processor in the digits behind: this makes the bytes of the model the same on all of them.
    What only tells how the solver went is dropped for the same reason.
    """
    if "coef_" not in vars(regressor):  # XGBoost has it as a property, which only its linear booster can answer
        return
    largest = float(np.max(np.abs(regressor.coef_)))
    if not math.isfinite(largest):
        raise InputError(f"{type(regressor).__name__} finds weights that are not finite; look at params.yaml")
    places = 6 - math.floor(math.log10(largest)) if largest else 6
    regressor.coef_ = np.round(regressor.coef_, places) + 0.0  # which makes one zero of 0.0 and -0.0
    regressor.intercept_ = float(np.round(regressor.intercept_, places))
    for name in ("singular_", "dual_gap_"):
        vars(regressor).pop(name, None)
