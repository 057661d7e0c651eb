"""What a train stage spends its time on.

    python -m benchmarks.phases ridge

Does in one process, one after the other, what the stage does in two at the same time; in the root of a project that
has been prepared.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def clock(spent: dict[str, float], phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    spent[phase] = time.perf_counter() - started


def main() -> None:
    name, spent = sys.argv[1], dict[str, float]()
    with clock(spent, "imports for the fit"):
        from stages.model import training
    with clock(spent, "settings"):
        training.check_model(name)
    with clock(spent, "fit, folds, files"):
        timings = training.train_model(name)
    with clock(spent, "import of MLflow"):
        from stages.tracking.connection import connect
        from stages.tracking.runs import begin_run, log_results
    with clock(spent, "MLflow's store"):
        run = begin_run(connect(), name, name)
    with clock(spent, "logging"):
        log_results(run, name, name, timings)
    print(json.dumps(spent), file=sys.stderr)


if __name__ == "__main__":
    main()
