"""The eight models the plain way: one process, no DVC. `make bench` measures the pipeline against it.

Same table, same features, same hyperparameters; params, metrics and model logged with `mlflow.sklearn.log_model`
as its documentation shows. MLflow's default format (skops) refuses classes it does not know, so, as its error
message proposes, the models are logged as cloudpickle.
"""

import sys
from pathlib import Path

import mlflow
import numpy as np
import yaml
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

sys.path.insert(0, str(Path(__file__).parent.parent))

from stages.model.catalogue import MODELS
from stages.model.estimators import build_estimator, build_regressor
from stages.model.search import Training, resolve_section
from stages.shared.params import Fit, read_section
from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary
from stages.table.encoder import Encoder


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    data, fit = params["data"], read_section(Fit)
    dictionary = read_dictionary(data["dictionary"])
    table = read_table(data["path"], dictionary)
    train, test = train_test_split(table, test_size=data["test_size"], random_state=data["seed"])
    target = dictionary["target"]
    X = Encoder(dictionary).fit(train).transform(train)

    mlflow.set_experiment("plain script")
    for name, model in MODELS.items():
        with mlflow.start_run(run_name=model.title):
            section = resolve_section(name, params[name], Training(X, train[target].to_numpy()), fit)
            regressor = build_regressor(name, section, fit.seed, fit.threads)
            estimator = build_estimator(regressor, model, bool(fit.log_target))
            pipeline = Pipeline([("encoder", Encoder(dictionary)), ("estimator", estimator)])
            pipeline.fit(train, train[target])
            mlflow.log_params({"model_name": model.title, **regressor.get_params()})
            for part, rows in (("train", train), ("test", test)):
                y, predicted = rows[target], np.asarray(pipeline.predict(rows))
                mlflow.log_metric(f"{part}_rmse", root_mean_squared_error(y, predicted))
                mlflow.log_metric(f"{part}_mae", mean_absolute_error(y, predicted))
                mlflow.log_metric(f"{part}_r2", r2_score(y, predicted))
            mlflow.sklearn.log_model(
                pipeline,
                name="model",
                input_example=test.drop(columns=target).head(3),
                serialization_format="cloudpickle",
            )


if __name__ == "__main__":
    main()
