"""train@<model>: fit one model, score it, and show it in MLflow.

Reads   params.yaml (fit, cluster and the model's own section), data/prepared/
Writes  models/<model> (raw rows in, the target out), metrics/<model>.json, scores/models/<model>/, one MLflow run
"""

from stages.model.catalogue import MODELS, require_model
from stages.shared.aside import start_aside, submit, wait_for
from stages.shared.cli import make_parser, run_command
from stages.shared.params import Cluster, read_section


def train(name: str) -> None:
    """Fit a model, write its files and log its run. Raises InputError for a wrong section before anything else."""
    place = "stages.cluster.training" if read_section(Cluster).address else "stages.model.training"
    model, aside = require_model(name), start_aside()  # what fits is imported there and MLflow here, at the same time
    checked, fitted = (submit(aside, f"{place}.{step}", name) for step in ("check_model", "begin_fit"))
    from stages.tracking.runs import open_run

    wait_for(checked)
    with open_run(name, model.title) as log_results:
        wait_for(fitted)
        log_results(wait_for(submit(aside, f"{place}.train_model", name)))


def main() -> None:
    parser = make_parser("train", __doc__, "ridge")
    parser.add_argument("model", help=f"one of {', '.join(MODELS)}")
    train(parser.parse_args().model)


if __name__ == "__main__":
    run_command(main)
