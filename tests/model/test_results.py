"""The tables that a candidate leaves behind come back as they were, whatever rows and features are called."""

import numpy as np
import pandas as pd
import pytest

from stages.model.results import read_scores_file, tabulate_predictions, write_csv
from stages.registry.leaderboard import rank_models
from stages.shared.cli import InputError


@pytest.fixture
def come_back(tmp_path, monkeypatch):
    """Write a table of results, and read it again."""
    monkeypatch.chdir(tmp_path)

    def run(table, kind):
        folder = tmp_path / "scores/models/ridge"
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(table, folder / f"{kind}.csv")
        return read_scores_file("ridge", kind)

    return run


@pytest.mark.parametrize("name", ["null", "nan", "NA", "None", "", "2019", "007", "a,b", 'a"b'])
def test_features_keep_their_names(come_back, name):
    table = pd.DataFrame({"feature": [name, name], "weight": [0.5, -0.25]})
    pd.testing.assert_frame_equal(come_back(table, "features"), table)


@pytest.mark.parametrize("name", ["predicted", "actual", "residual", "weight", "id", None])
@pytest.mark.parametrize("ids", [["000", "033", "NA"], [1, 2, 3]])
def test_rows_keep_their_ids(come_back, tmp_path, name, ids):
    (tmp_path / "data/prepared").mkdir(parents=True)
    index = pd.Index(ids, name=name)
    pd.DataFrame({"target": [1.0, 2.0, 3.0]}, index=index).to_parquet(tmp_path / "data/prepared/y_test.parquet")
    table = come_back(tabulate_predictions("test", np.array([1.5, 2.0, 2.5])), "predictions")
    assert table.iloc[:, 0].tolist() == [str(i) for i in ids]
    assert table["predicted"].tolist() == [1.5, 2.0, 2.5]
    assert table["residual"].tolist() == [-0.5, 0.0, 0.5]


def test_a_metric_that_test_rows_lack_is_refused():
    """As a logarithm of a target below zero, which only the test rows have."""
    scores = {"model": "Ridge", "test_r2": 0.5, "cv_rmsle": 0.1, "test_rmse": 1.0, "median_rmse": 2.0}
    assert rank_models({"ridge": scores}, "test_r2") == ["ridge"]
    with pytest.raises(InputError, match=r"register\.metric = 'cv_rmsle': Ridge has no test_rmsle"):
        rank_models({"ridge": scores}, "cv_rmsle")
    with pytest.raises(InputError, match="'median_rmse': no such metric; known: "):  # the same for every model
        rank_models({"ridge": scores | {"median_rmse": 9.0}}, "median_rmse")
