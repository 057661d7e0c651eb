"""Where a result comes from: the links from MLflow to DVC and git."""

import getpass
import os
from contextlib import suppress
from typing import Any

import yaml

from stages.shared.files import (
    PREPARED,
    hash_file,
    hash_folder,
    hash_table,
    metrics_file,
    model_file,
    read_yaml,
    stage_of,
)
from stages.shared.git import ask_git, show_way_back
from stages.shared.params import PARAMS, Data, read_section
from stages.shared.processes import name_process


def describe_origin(name: str) -> dict[str, str]:
    """What is known of a run when it begins: DVC stage, experiment, process, and what MLflow calls its source."""
    experiment = os.environ.get("DVC_EXP_NAME")
    return {
        "dvc.stage": stage_of(name),
        **({"dvc.exp_name": experiment} if experiment else {}),
        "dvc.process": name_process(),
        "mlflow.user": os.environ.get("MLFLOW_TRACKING_USERNAME") or find_user(),
        "mlflow.source.name": f"python -m stages.{stage_of(name).replace('@', ' ')}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": find_baseline(),
    }


def describe_provenance(name: str) -> dict[str, Any]:
    """All that a result was made from and consists of: commit, experiment, and the md5 of each input and output."""
    data = read_section(Data)
    outputs = [":!metrics", ":!dvc.lock"]  # DVC rewrites these while a stage runs
    changed = ask_git("status", "--porcelain", "--untracked-files=no", "--", ".", *outputs)
    return {
        "stage": stage_of(name),
        "commit": find_baseline(),
        "uncommitted_changes": bool(changed),
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "inputs": {
            data.path: hash_table(data.path),
            data.dictionary: hash_file(data.dictionary),
            PREPARED.as_posix(): hash_folder(PREPARED),
        },
        "outputs": {path.as_posix(): hash_file(path) for path in (model_file(name), metrics_file(name))},
    }


def describe_result(name: str, scores: dict[str, Any]) -> str:
    """What a run's page says first: its scores, the experiment and what it changed, and the way back to the files."""
    commit = find_baseline()
    committed = read_committed_params(commit)
    changes = [
        f"`{key}` {committed.get(key)} → {value}"
        for key, value in flatten(read_yaml(PARAMS)).items()
        if committed.get(key) != value
    ]
    experiment = os.environ.get("DVC_EXP_NAME")
    shown = [f"{key} {scores[key]:,.6g}" for key in ("test_r2", "test_rmse", "cv_rmsle") if key in scores]
    lines = [
        f"{', '.join(shown)}.",
        f"Experiment `{experiment}`." if experiment else "",
        f"Changed since commit {commit[:7]}: {', '.join(changes)}." if changes and committed else "",
        describe_way_back(name),
    ]
    return "\n\n".join(filter(None, lines))


def describe_way_back(name: str) -> str:
    """How a model file comes back, as Markdown."""
    path, md5 = model_file(name).as_posix(), hash_file(model_file(name))
    said = f"Its file, `{path}`, comes back from the commit or experiment that brought it:"
    return f"{said}\n\n{show_way_back(path, md5)}"


def read_committed_params(commit: str) -> dict[str, Any]:
    """The settings of a commit, flat; none if it has no settings file that can be read."""
    with suppress(yaml.YAMLError, AttributeError):
        return flatten(yaml.safe_load(ask_git("show", f"{commit}:./{PARAMS}") or "{}"))
    return {}


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{section.key: value} of a settings file."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def find_baseline() -> str:
    """The commit that a result starts from; MLflow alone would log the parent of an experiment's."""
    return os.environ.get("DVC_EXP_BASELINE_REV") or ask_git("rev-parse", "HEAD")


def find_user() -> str:
    """The name of who runs this, or nothing in a container that has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def describe_table() -> str:
    """Which table the models here are of, by what stays the same when it gets new rows: its target and dictionary."""
    data = read_section(Data)
    return f"{data.target or read_yaml(data.dictionary)['target']} by {data.dictionary}"


def hash_outputs(name: str) -> dict[str, str]:
    """The two md5s that name a result in both worlds."""
    return {"dvc.model_md5": hash_file(model_file(name)), "dvc.metrics_md5": hash_file(metrics_file(name))}
