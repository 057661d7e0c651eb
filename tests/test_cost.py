"""What each stage may cost, in counts that are the same on every machine: modules, files read, encoder passes."""

import json
import sys

import pytest

pytestmark = pytest.mark.slow

WATCHER = """
import json, sys
opened, passes = [], []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from stages.table import encoder
transform = encoder.Encoder.transform
encoder.Encoder.transform = lambda self, rows: passes.append(len(rows)) or transform(self, rows)
{call}
print(json.dumps({{"modules": list(sys.modules), "opened": opened, "passes": passes}}))
"""


@pytest.fixture(scope="module")
def watch(finished_project):
    """Run a call in a project that has run already; what it imported, opened and encoded."""

    def run(call):
        printed = finished_project.run(sys.executable, "-c", WATCHER.format(call=call)).stdout
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


def test_train_imports_its_own_library_only_and_encodes_nothing_twice(watch):
    seen = watch("import stages.train; stages.train.train('ridge')")
    assert not find_packages(seen) & {"xgboost", "lightgbm", "optuna", "pandera", "uvicorn", "shap"}
    assert len(seen["modules"]) < 4000
    assert seen["passes"] == [292]  # for the pipeline's predict time


def test_register_with_nothing_changed_imports_nothing_to_speak_of(watch):
    watch("import stages.register; stages.register.main()")
    seen = watch("import stages.register; stages.register.main()")
    assert not find_packages(seen) & {"mlflow", "sqlalchemy", "pydantic"}
    assert seen["passes"] == []
