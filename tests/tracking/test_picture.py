"""The picture of a model for MLflow."""

import pandas as pd
import pytest

from stages.tracking.picture import draw_model

PREDICTIONS = pd.DataFrame({"actual": [1.0, 2.0], "predicted": [1.1, 1.9], "residual": [-0.1, 0.1]})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["price $^$", "价格", "x" * 80, "a\nb", "same"])
def test_names_of_any_kind_are_drawn_without_a_warning(tmp_path, name):
    features = pd.DataFrame({"feature": ["same", name], "weight": [0.7, -0.3]})
    draw_model("Ridge", f"{name} per row, in $", PREDICTIONS, features, tmp_path / "plots.png")
    assert (tmp_path / "plots.png").read_bytes().startswith(b"\x89PNG")
