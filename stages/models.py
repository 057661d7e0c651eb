"""Name → estimator, from a section of params.yaml. Knows estimators, nothing of files."""

import math
import re
from importlib import import_module
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import RobustScaler
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

from stages.edge import InputError
from stages.features import LogSkewed, Standardized, take_log, undo_log


class Model(NamedTuple):
    """What a model is called in MLflow, the class that fits it, and, if it is linear, how its inputs are scaled."""

    title: str
    module: str
    regressor: str
    scaler: BaseEstimator | None = None


MODELS = {
    "linear": Model("Linear Regression", "sklearn.linear_model", "LinearRegression", Standardized()),
    "ridge": Model("Ridge Regression", "sklearn.linear_model", "Ridge", RobustScaler(copy=False)),
    "lasso": Model("Lasso Regression", "sklearn.linear_model", "Lasso", Standardized()),
    "decision_tree": Model("Decision Tree", "sklearn.tree", "DecisionTreeRegressor"),
    "random_forest": Model("Random Forest", "sklearn.ensemble", "RandomForestRegressor"),
    "gradient_boosting": Model("Gradient Boosting", "sklearn.ensemble", "GradientBoostingRegressor"),
    "xgboost": Model("XGBoost", "xgboost", "XGBRegressor"),
    "lightgbm": Model("LightGBM", "lightgbm", "LGBMRegressor"),
}

# scikit-learn checks its own parameters; the boosters leave that to C++, in the middle of the fit.
# So these, from the parameter pages of XGBoost 3 and LightGBM 4, are what their sections may hold:
# type, smallest, largest, and which of the two ends belong to the range.
SHARED_LIMITS = {
    "n_estimators": Interval(Integral, 1, None, closed="left"),
    "learning_rate": Interval(Real, 0, None, closed="neither"),
    "min_child_weight": Interval(Real, 0, None, closed="left"),
    "subsample": Interval(Real, 0, 1, closed="right"),
    "colsample_bytree": Interval(Real, 0, 1, closed="right"),
    "reg_alpha": Interval(Real, 0, None, closed="left"),
    "reg_lambda": Interval(Real, 0, None, closed="left"),
    "random_state": Interval(Integral, 0, None, closed="left"),
    "n_jobs": Interval(Integral, -1, None, closed="left"),
}
BOOSTER_LIMITS = {
    "XGBRegressor": {
        **SHARED_LIMITS,
        "max_depth": Interval(Integral, 0, None, closed="left"),
        "max_leaves": Interval(Integral, 0, None, closed="left"),
        "max_bin": Interval(Integral, 2, None, closed="left"),
        "gamma": Interval(Real, 0, None, closed="left"),
        "max_delta_step": Interval(Real, 0, None, closed="left"),
        "colsample_bylevel": Interval(Real, 0, 1, closed="right"),
        "colsample_bynode": Interval(Real, 0, 1, closed="right"),
        "grow_policy": StrOptions({"depthwise", "lossguide"}),
        "tree_method": StrOptions({"auto", "exact", "approx", "hist"}),
        "objective": StrOptions({"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror"}),
    },
    "LGBMRegressor": {
        **SHARED_LIMITS,
        "max_depth": Interval(Integral, -1, None, closed="left"),
        "num_leaves": Interval(Integral, 2, 131072, closed="both"),
        "max_bin": Interval(Integral, 2, None, closed="left"),
        "min_child_samples": Interval(Integral, 0, None, closed="left"),
        "min_split_gain": Interval(Real, 0, None, closed="left"),
        "subsample_freq": Interval(Integral, 0, None, closed="left"),
        "feature_fraction_bynode": Interval(Real, 0, 1, closed="right"),
        "path_smooth": Interval(Real, 0, None, closed="left"),
        "extra_trees": "boolean",
        "boosting_type": StrOptions({"gbdt", "dart", "rf"}),
        "objective": StrOptions({"regression", "regression_l1", "huber", "fair"}),
    },
}


def build_regressor(name: str, section: dict[str, Any] | None, seed: int, threads: int) -> BaseEstimator:
    """The unfitted regressor of a model, with its section of params.yaml.

    Seed and threads go to every class that takes them, unless the section says otherwise.
    Raises InputError for a model, a parameter or a value that does not exist.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    if not isinstance(section, dict):
        raise InputError(f"params.yaml: section `{name}` is missing; an empty one is written `{name}: {{}}`")
    regressor = import_regressor(name)
    defaults = regressor().get_params()
    shared = {"random_state": seed, "n_jobs": threads, "copy_X": False}  # LogSkewed's array may be overwritten
    quiet = {"verbose": -1} if name == "lightgbm" else {}
    check_section(name, section, regressor)
    return regressor(**{key: value for key, value in shared.items() if key in defaults} | quiet | section)


def import_regressor(name: str) -> Any:
    """The class of a model; imported here, so that a stage loads only the library that it needs."""
    return getattr(import_module(MODELS[name].module), MODELS[name].regressor)


def build_estimator(regressor: BaseEstimator, model: Model, log_target: bool) -> BaseEstimator:
    """Encoded features → dollars: unskewed, scaled inputs for a linear model, and the log of the price as target."""
    steps = [("unskew", LogSkewed()), ("scaler", clone(model.scaler))] if model.scaler else []
    estimator = Pipeline([*steps, ("regressor", regressor)])
    if not log_target:
        return estimator
    return TransformedTargetRegressor(estimator, func=take_log, inverse_func=undo_log, check_inverse=False)


def find_regressor(estimator: BaseEstimator) -> BaseEstimator:
    """The regressor inside a fitted estimator from encoded rows to dollars."""
    if isinstance(estimator, TransformedTargetRegressor):
        estimator = estimator.regressor_
    return estimator["regressor"]


def round_coefficients(regressor: BaseEstimator) -> None:
    """Round a fitted linear model to seven digits of its largest coefficient; leave any other model as it is.

    BLAS kernels differ by processor in the digits behind: this makes the bytes of the model the same on all of them.
    What only tells how the solver went is dropped for the same reason.
    """
    if not hasattr(regressor, "coef_"):
        return
    largest = float(np.max(np.abs(regressor.coef_)))
    places = 6 - math.floor(math.log10(largest)) if largest else 6
    regressor.coef_ = np.round(regressor.coef_, places)
    regressor.intercept_ = float(np.round(regressor.intercept_, places))
    for name in ("singular_", "dual_gap_"):
        vars(regressor).pop(name, None)


def check_section(name: str, section: dict[str, Any], regressor: Any) -> None:
    """Raises InputError with every fault of a model's section: key, value, and what is allowed."""
    limits = BOOSTER_LIMITS.get(regressor.__name__)
    constraints = limits or regressor._parameter_constraints
    known = sorted(limits or regressor().get_params())
    faults = []
    for key, value in section.items():
        where = f"params.yaml: {name}.{key} = {value!r}"
        if key not in known:
            faults.append(f"{where}: unknown parameter of {MODELS[name].title}; known: {', '.join(known)}")
            continue
        allowed = [constraints[key]] if limits else constraints[key]
        try:
            validate_parameter_constraints({key: allowed}, {key: value}, caller_name=name)
        except InvalidParameterError as error:
            faults.append(f"{where}: {str(error).partition(f'of {name} ')[2].rpartition(' Got ')[0]}{hint(value)}")
            continue
        if isinstance(value, bool) and not {"boolean", "verbose"} & {a for a in allowed if isinstance(a, str)}:
            faults.append(f"{where}: must be a number, not true or false")
    if faults:
        raise InputError("; ".join(faults))


def hint(value: Any) -> str:
    """YAML 1.1 reads 1e-3 as text; say so rather than let a user wonder."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return f" (YAML reads {value} as text; write it with a point and a sign, as in 1.0e-3)"
    return ""
