"""What a train process spends its time on.

    python -m benchmarks.phases ridge

Runs the stage in this process, in the root of a project that has been prepared, with a clock around its parts.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

PHASES = {
    "stages.train": {
        "read_table": "data",
        "read_features": "data",
        "read_targets": "data",
        "build_regressor": "parameters",
        "score_parts": "scoring",
        "time_pipeline": "scoring",
        "write_results": "writing",
    },
    "stages.tracking.runs": {"begin_run": "MLflow", "log_results": "MLflow"},
}


def watch(module: Any, name: str, spent: dict[str, float], phase: str) -> None:
    """Put a clock around a function of a module."""
    function: Callable[..., Any] = getattr(module, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[phase] += time.perf_counter() - started

    setattr(module, name, timed)


def main() -> None:
    started = time.perf_counter()
    spent: dict[str, float] = defaultdict(float)
    import stages.tracking.runs
    import stages.train

    spent["imports"] = time.perf_counter() - started
    for module, functions in PHASES.items():
        for name, phase in functions.items():
            watch(sys.modules[module], name, spent, phase)
    build = stages.train.build_estimator

    def build_watched(*args: Any) -> Any:
        estimator = build(*args)
        watch(type(estimator), "fit", spent, "fit")
        return estimator

    stages.train.build_estimator = build_watched  # type: ignore[assignment]
    stages.train.train(sys.argv[1])
    spent["waiting for the folds, and the rest"] = time.perf_counter() - started - sum(spent.values())
    print(json.dumps(spent), file=sys.stderr)


if __name__ == "__main__":
    main()
