"""blend: a ninth candidate, the weighted mean of the models that are nearly as good as the best.

Reads   params.yaml (blend, fit, cluster), scores/models/ (the out-of-fold predictions), models/, data/prepared/
Writes  models/blend (raw rows in, the target out), metrics/blend.json, scores/blend/, one MLflow run
"""

from stages.model.catalogue import BLEND, require_models
from stages.shared.aside import start_aside, submit, wait_for
from stages.shared.cli import make_parser, run_command
from stages.shared.params import Cluster, read_section


def blend(names: list[str]) -> None:
    """Choose and weigh the members, write the blend's files and log its run."""
    place = "stages.cluster.training" if read_section(Cluster).address else "stages.model.blending"
    aside = start_aside()  # what fits is imported there and MLflow here, at the same time
    chosen = submit(aside, "stages.model.blending.choose_members", names)
    from stages.tracking.runs import open_run

    members = wait_for(chosen)
    with open_run("blend", BLEND) as log_results:
        log_results(wait_for(submit(aside, f"{place}.train_blend", *members)))


def main() -> None:
    parser = make_parser("blend", __doc__, "--models ridge xgboost")
    parser.add_argument("--models", nargs="+", required=True, help="those that dvc.yaml lists")
    blend(require_models(parser.parse_args().models))


if __name__ == "__main__":
    run_command(main)
