"""What the champion stage writes for `dvc plots`."""

import pandas as pd
import pytest

from stages.champion import compare_runner_up, thin
from stages.shared.files import scores_folder


@pytest.mark.parametrize(("rows", "most", "kept"), [(0, 5, 0), (5, 5, 5), (6, 5, 3), (292_000, 555, 555)])
def test_a_plot_gets_at_most_so_many_points_from_all_over_the_table(rows, most, kept):
    found = thin(pd.DataFrame({"row": range(rows)}), most)["row"]
    assert len(found) == kept
    assert len(set(found.diff().dropna())) <= 1
    assert found.max() >= rows * (most - 1) / most - 1 or rows <= most


def test_the_runner_up_is_one_that_predicts_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    actual = pd.Series(range(30), dtype=float)
    for name, error in (("blend", 0.1), ("ridge", 0.1), ("lasso", 2.0)):
        scores_folder(name).mkdir(parents=True)
        table = pd.DataFrame({"row": range(30), "actual": actual, "predicted": actual + error})
        table.to_csv(scores_folder(name) / "predictions.csv", index=False)
    assert compare_runner_up(["ridge", "blend", "lasso"], "rmse", 1) == {"runner_up": "lasso", "win_rate": 1.0}
    assert compare_runner_up(["ridge", "blend"], "rmse", 1) == {}
    assert compare_runner_up(["ridge"], "rmse", 1) == {}
