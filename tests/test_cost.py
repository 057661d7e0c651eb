"""What each stage may cost, in counts that are the same on every machine: modules, files read, encoder passes."""

import json
import sys

import pytest

from tests.conftest import copy_finished

pytestmark = pytest.mark.slow

WATCHER = """
import json, sys
opened, passes = [], []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
{watch_encoder}
{call}
print(json.dumps({{"modules": list(sys.modules), "opened": opened, "passes": passes}}))
"""


WATCH_ENCODER = """
from stages.table import encoder
transform = encoder.Encoder.transform
encoder.Encoder.transform = lambda self, rows: passes.append(len(rows)) or transform(self, rows)
"""


@pytest.fixture(scope="module")
def watch(origin, tmp_path_factory):
    """Run a call in a project that has run already, of these tests alone; what it imported, opened and encoded."""
    project = copy_finished(origin, tmp_path_factory.mktemp("cost") / "project")

    def run(call, watch_encoder=WATCH_ENCODER):
        code = WATCHER.format(call=call, watch_encoder=watch_encoder)
        printed = project.run(sys.executable, "-c", code).stdout
        return json.loads(printed.splitlines()[-1])

    return run


def find_packages(watched):
    return {module.partition(".")[0] for module in watched["modules"]}


def test_prepare_needs_no_mlflow_and_encodes_each_part_once(watch):
    seen = watch("import stages.prepare; stages.prepare.main()")
    assert not find_packages(seen) & {"mlflow", "sqlalchemy", "skops", "matplotlib", "xgboost", "lightgbm"}
    assert seen["passes"] == [1168, 292]


def test_bad_parameter_is_found_before_anything_heavy_is_imported(watch):
    call = "import stages.train as t, stages.shared.cli as c\ntry: t.train('svm')\nexcept c.InputError: pass"
    assert not find_packages(watch(call)) & {"mlflow", "sqlalchemy", "skops", "matplotlib", "xgboost", "lightgbm"}


def test_a_fit_imports_its_own_library_only_and_encodes_nothing_twice(watch):
    seen = watch("from stages.model import training; training.train_model('ridge')")
    assert not find_packages(seen) & {"xgboost", "lightgbm", "mlflow", "sqlalchemy", "optuna", "uvicorn"}
    assert seen["passes"] == [292]  # for the pipeline's predict time


def test_beside_a_fit_train_imports_mlflow_and_nothing_that_fits(watch):
    seen = watch("import stages.train; stages.train.train('ridge')", watch_encoder="")  # which imports scikit-learn
    assert not find_packages(seen) & {"sklearn", "xgboost", "lightgbm", "matplotlib", "skops"}
    assert len(seen["modules"]) < 3000


def test_register_leaves_what_models_are_made_of_to_the_process_aside(watch):
    call = "import pathlib, stages.register; pathlib.Path('mlflow.db').unlink(); stages.register.main()"
    assert not find_packages(watch(call, watch_encoder="")) & {"sklearn", "skops", "xgboost", "lightgbm"}


def test_register_with_nothing_changed_imports_nothing_to_speak_of(watch):
    watch("import stages.register; stages.register.main()")
    seen = watch("import stages.register; stages.register.main()")
    assert not find_packages(seen) & {"mlflow", "sqlalchemy", "pydantic"}
    assert seen["passes"] == []
