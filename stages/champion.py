"""champion: rank the candidates, describe the best, and fit it again on all rows: those bytes serve.

Reads   params.yaml (register.metric, register.refit, data, fit, cluster), metrics/, models/, scores/, data/prepared/,
        and the raw table for its hash
Writes  models/champion, metrics/champion.json, its model card metrics/champion.md, and plots/ for `dvc plots`
"""

import shutil

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from stages.model.catalogue import require_models
from stages.model.estimators import round_estimator
from stages.model.metrics import Scores, estimate_win_rate, find_metric
from stages.model.results import PARTS, load_object, read_scores_file, read_table, read_targets, write_csv
from stages.registry.card import write_card
from stages.registry.leaderboard import rank_models, read_scores
from stages.shared.cli import make_parser, run_command
from stages.shared.files import CARD, CHAMPION, PLOTS, PREPARED, model_file, write_json, write_text, write_whole
from stages.shared.params import Cluster, Fit, Register, read_section
from stages.table.columns import name_target

MOST_POINTS = 5000  # in a plot, of all models together


def compare_runner_up(ranked: list[str], metric: str, seed: int) -> Scores:
    """The best of those that predict something else, and the share of resamples of the test rows in which the champion
    beats it.
    """
    first = read_scores_file(ranked[0], "predictions")
    for name in ranked[1:]:
        other = read_scores_file(name, "predictions")["predicted"]
        if not first["predicted"].equals(other):  # as those of a blend of the champion alone
            arrays = first["actual"].to_numpy(), first["predicted"].to_numpy(), other.to_numpy()
            return {"runner_up": name, "win_rate": estimate_win_rate(*arrays, metric, seed)}
    return {}


def refit_pipeline(pipeline: Pipeline, name: str) -> Pipeline:
    """Encoder and estimator fitted again, with the same settings, on training and test rows together."""
    if read_section(Cluster).address:
        from stages.cluster import training

        return training.refit_pipeline(pipeline, name)
    rows = pd.concat([read_table(f"rows_{part}") for part in PARTS])
    target = np.concatenate([read_targets()[part] for part in PARTS])
    encoder, estimator = clone(pipeline["encoder"]), clone(pipeline["estimator"])
    estimator.fit(encoder.fit_transform(rows, target), target)
    round_estimator(estimator)
    return Pipeline([("encoder", encoder), ("estimator", estimator)])


def thin(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows of a table, evenly spaced."""
    return table.iloc[:: max(1, -(-len(table) // most))]


def tabulate_plots(ranked: list[str], scores: dict[str, Scores]) -> dict[str, pd.DataFrame]:
    """One table for each plot, with all models and their ranks, from 0 for the best."""
    tables, most = {}, MOST_POINTS // len(ranked)
    for kind in ("predictions", "features", "learning"):
        found = {scores[name]["model"]: thin(read_scores_file(name, kind), most) for name in ranked}
        tables[kind] = pd.concat(table.assign(model=m, rank=rank) for rank, (m, table) in enumerate(found.items()))
    keys = {"model": "model", "rmse": "test_rmse", "low": "test_rmse_low", "high": "test_rmse_high"}
    tables["rmse"] = pd.DataFrame([{column: scores[n][key] for column, key in keys.items()} for n in ranked])
    return tables


def choose_champion(names: list[str]) -> None:
    """Rank these models and the blend, and write what serves, the tables of the plots, the card and the report."""
    settings, fit = read_section(Register), read_section(Fit)
    scores = read_scores([*names, "blend"])
    ranked = rank_models(scores, settings.metric)
    report = {"name": ranked[0], **scores[ranked[0]], "chosen_by": settings.metric, "ranking": ranked}
    dictionary = load_object(PREPARED / "encoder.joblib").dictionary
    report |= {
        "target": name_target(dictionary),
        "unit": dictionary.get("unit", ""),
        "n_test": len(read_table("y_test")),
    }
    report |= compare_runner_up(ranked, find_metric(settings.metric), fit.seed) | {"refit": settings.refit}
    with threadpool_limits(fit.threads), write_whole(model_file("champion")) as part:
        if settings.refit:
            joblib.dump(refit_pipeline(load_object(model_file(ranked[0])), ranked[0]), part)
        else:
            shutil.copyfile(model_file(ranked[0]), part)
    with write_whole(PLOTS) as folder:
        folder.mkdir()
        for kind, table in tabulate_plots(ranked, scores).items():
            write_csv(table, folder / f"{kind}.csv")
    with write_whole(CARD) as part:
        write_text(part, write_card(report, scores))
    write_json(CHAMPION, report)
    print(f"champion: {report['model']}, by {settings.metric} {report[settings.metric]}")


def main() -> None:
    parser = make_parser("champion", __doc__, "--models ridge xgboost")
    parser.add_argument("--models", nargs="+", required=True, help="those that dvc.yaml lists; the blend joins them")
    choose_champion(require_models(parser.parse_args().models))


if __name__ == "__main__":
    run_command(main)
