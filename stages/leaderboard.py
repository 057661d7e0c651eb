"""leaderboard: the models here, best first; or, with --all, every result that MLflow has.

Reads   metrics/ and data/prepared/; with --all, MLflow
"""

from tabulate import tabulate

from stages.shared.cli import make_parser, run_command
from stages.shared.files import CHAMPION, read_json

COMMIT = "tags.mlflow.source.git.commit"
COLUMNS = {  # of `mlflow.search_runs`, as they are shown
    "tags.mlflow.runName": "model",
    "tags.dvc.exp_name": "experiment",
    "metrics.test_rmse": "RMSE",
    "metrics.test_mae": "MAE",
    "metrics.test_r2": "R²",
    "metrics.cv_rmsle": "CV RMSLE",
    "metrics.fit_seconds": "fit s",
    COMMIT: "commit",
    "start_time": "logged",
}


def show_workspace(style: str) -> str:
    """The table that register prints, from the files in the workspace."""
    from stages.registry.leaderboard import format_leaderboard, read_scores, score_baseline

    scores = read_scores(read_json(CHAMPION)["ranking"])
    return format_leaderboard(scores, {}, score_baseline(), style)  # how long a fit took is in no file


def show_runs(style: str) -> str:
    """One line for each result in MLflow, experiments among them, the best R² first; of runs alike the oldest."""
    import mlflow

    from stages.tracking.connection import connect, explain_store_errors

    experiment_id = connect()
    order = ["metrics.test_r2 DESC", "attributes.start_time ASC"]
    with explain_store_errors():
        mine = "attributes.status = 'FINISHED' and tags.`dvc.model_md5` != ''"  # others are not the pipeline's
        runs = mlflow.search_runs([experiment_id], mine, order_by=order)
    if runs.empty:
        return "MLflow has no results yet: run `dvc repro`"
    columns = dict(COLUMNS)
    if "metrics.cv_rmsle" not in runs and "metrics.cv_rmse" in runs:  # no RMSLE of a negative target
        columns = {key.replace("rmsle", "rmse"): title.replace("RMSLE", "RMSE") for key, title in columns.items()}
    table = runs.drop_duplicates(["tags.dvc.model_md5", "tags.dvc.metrics_md5"]).reindex(columns=list(columns))
    table[COMMIT] = table[COMMIT].str[:7]
    table["start_time"] = table["start_time"].dt.strftime("%Y-%m-%d %H:%M")
    formats = ["", "", "", ",.6g", ",.6g", ".4f", ".4g", ".2f", "", ""]
    lines = table.astype(object).where(table.notna(), None).itertuples(index=False)
    return tabulate(
        [(rank, *line) for rank, line in enumerate(lines, start=1)],
        ["", *columns.values()],
        style,
        floatfmt=formats,
        disable_numparse=[1, 2, 8, 9],
    )


def main() -> None:
    parser = make_parser("leaderboard", __doc__, "--md")
    parser.add_argument("--md", action="store_true", help="as Markdown, for a pull request")
    parser.add_argument("--all", action="store_true", help="every result in MLflow, also those of experiments")
    arguments = parser.parse_args()
    style = "github" if arguments.md else "plain"
    print(show_runs(style) if arguments.all else show_workspace(style))


if __name__ == "__main__":
    run_command(main)
