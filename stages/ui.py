"""ui: MLflow's pages on the project's store, with a link to its runs, the best first; of a server, the link alone."""

import os
import subprocess
import sys
from urllib.parse import quote

from stages.shared.cli import make_parser, run_command

QUIET = "--log-level warning"  # faults, but not each request


def link_runs(address: str, experiment_id: str) -> str:
    """The page of an experiment's runs, sorted by R²; MLflow's start page is the one for language models."""
    query = f"workflowType=machine_learning&orderByKey={quote('metrics.`test_r2`')}&orderByAsc=false"
    return f"{address}/#/experiments/{experiment_id}/runs?{query}"


def main() -> None:
    parser = make_parser("ui", __doc__, "--port 5001")
    parser.add_argument("--port", type=int, default=5000, help="on this machine (default 5000)")
    port = parser.parse_args().port
    from stages.tracking.connection import connect
    from stages.tracking.store import find_uri

    uri, experiment_id = find_uri(), connect()
    if uri.startswith("http"):
        print(f"Runs: {link_runs(uri.rstrip('/'), experiment_id)}")
        return
    print(f"Runs: {link_runs(f'http://localhost:{port}', experiment_id)}", flush=True)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # seven processes for language models
    stores = ["--backend-store-uri", uri, "--registry-store-uri", uri]
    command = ["-m", "mlflow", "ui", "--port", str(port), "--workers", "1", *stores, "--uvicorn-opts", QUIET]
    words, environment = [sys.executable, *command], os.environ | {"PYTHONWARNINGS": "ignore"}
    if sys.platform == "win32":  # whose exec splits words that hold spaces
        sys.exit(subprocess.call(words, env=environment))
    os.execve(words[0], words, environment)  # noqa: S606 - words of our own


if __name__ == "__main__":
    run_command(main)
