"""A table of whole numbers, flags, dates, odd words and names: the same predictions behind every door."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from stages.predict import predict_file
from stages.table.contract import read_table
from stages.table.encoder import Encoder
from stages.table.inference import complete_dictionary
from stages.tracking import models
from tests.rest import serving

N = 120


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "code": [f"A{i:04}" for i in range(N)],
            "rooms": rng.integers(1, 6, N),
            "power": ["?" if i % 30 == 0 else i for i in range(N)],
            "new": rng.choice([True, False], N),
            "lift": rng.choice(["Yes", "no", None], N),
            "sold": pd.date_range("2020-01-01", periods=N).strftime("%d/%m/%Y"),
            "zone": rng.choice([1, 2, 3], N),
            "price": rng.normal(size=N) * 1e-4,
        }
    )


@pytest.fixture(scope="module")
def source(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    table.to_csv(path, index=False)
    return path


def read_learned(source, dictionary):
    return read_table(str(source), dictionary, log_target=False)


@pytest.fixture(scope="module")
def learned(source):
    """The pipeline, and what it predicts for the rows that it has learned from."""
    columns = {"zone": {"type": "category", "na_means": "unknown", "feature": True}}
    dictionary = complete_dictionary(str(source), {"target": "price", "id": "code", "columns": columns})
    rows = read_learned(source, dictionary)
    pipeline = Pipeline([("encoder", Encoder(dictionary)), ("estimator", Pipeline([("regressor", Ridge(alpha=0.1))]))])
    expected = pipeline.fit(rows, rows["price"]).predict(rows)
    assert len(np.unique(expected)) == N
    return pipeline, expected


def close(expected):
    return pytest.approx(np.asarray(expected), rel=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_file_is_predicted_as_it_was_learned(learned, source, tmp_path, suffix):
    pipeline, expected = learned
    predict_file(pipeline, str(source), str(tmp_path / f"out.{suffix}"), skip_bad=False)
    out = pd.read_csv(tmp_path / "out.csv") if suffix == "csv" else pd.read_parquet(tmp_path / "out.parquet")
    assert out["code"].tolist() == [f"A{i:04}" for i in range(N)]
    assert out["price"].to_numpy() == close(expected)
    assert not (tmp_path / "out.marks.csv").exists()


def test_pandas_may_read_the_rows_in_its_own_way(learned, source):
    pipeline, expected = learned
    assert pipeline.predict(pd.read_csv(source)) == close(expected)
    few = pd.read_csv(source).iloc[:3]
    assert pipeline.predict(few.assign(sold=pd.to_datetime(few["sold"], format="%d/%m/%Y"))) == close(expected[:3])


def test_rest_takes_records_and_csv(learned, source, table):
    pipeline, expected = learned
    whole = table.drop(columns="price").replace({"?": None})
    records = whole.astype(object).where(whole.notna(), None).to_dict("records")
    for record in records:
        record["zone"] = str(record["zone"])
    with serving(pipeline) as (session, address):
        url = f"{address}/invocations"
        answer = session.post(url, json={"dataframe_records": records})
        assert answer.json()["predictions"] == close(expected), answer.text
        spelled = [{**record, "new": {True: "yes", False: 0}[record["new"]]} for record in records]
        assert session.post(url, json={"inputs": spelled}).json()["predictions"] == close(expected)
        answer = session.post(url, data=source.read_bytes(), headers={"Content-Type": "text/csv"})
        assert answer.json()["predictions"] == close(expected), answer.text
        for column, value, said in (("new", [1], "true, false or text"), ("sold", "soon", "must be a date")):
            bad = session.post(url, json={"dataframe_records": [{**records[0], column: value}]})
            assert (bad.status_code, column in bad.text, said in bad.text) == (400, True, True), bad.text


def test_pyfunc_takes_rows_as_pandas_reads_them(learned, source, tmp_path, monkeypatch):
    pipeline, expected = learned
    rows = pd.read_csv(source)
    monkeypatch.setattr(models, "read_example", lambda: read_learned(source, pipeline["encoder"].dictionary))
    models.save_pipeline(pipeline, tmp_path / "model", Model())
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert loaded.predict(rows) == close(expected)
    assert loaded.predict(rows.head(2)) == close(expected[:2])
    with pytest.raises(mlflow.MlflowException, match="rooms"):
        loaded.predict(rows.drop(columns="rooms"))
