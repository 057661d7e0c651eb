"""The whole pipeline, as a person runs it, on the real table."""

import pytest

pytestmark = pytest.mark.slow

RUNS = {
    "Linear Regression",
    "Ridge Regression",
    "Lasso Regression",
    "Decision Tree",
    "Random Forest",
    "Gradient Boosting",
    "XGBoost",
    "LightGBM",
}
