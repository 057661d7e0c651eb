"""Where a result comes from, as tags: the links from MLflow to DVC and git."""

import getpass
import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from stages.shared.files import PREPARED, hash_file, hash_folder, metrics_file, model_file, read_yaml, stage_of
from stages.shared.params import PARAMS, Data, read_section


def describe_origin(name: str) -> dict[str, str]:
    """DVC stage, experiment, revision, and the md5s of the data that a run reads."""
    raw = Path(read_section(Data).path)
    commit = find_baseline()
    outputs = [":!metrics", ":!dvc.lock"]  # DVC rewrites these while a stage runs
    return {
        "dvc.stage": stage_of(name),
        "dvc.table": describe_table(),
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline_rev": commit,
        "dvc.dirty": str(bool(ask_git("status", "--porcelain", "--untracked-files=no", "--", ".", *outputs))).lower(),
        "dvc.process": f"{platform.node()}:{os.getpid()}",
        "mlflow.user": os.environ.get("MLFLOW_TRACKING_USERNAME") or find_user(),
        "mlflow.source.name": f"python -m stages.{stage_of(name).replace('@', ' ')}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        f"dvc.md5.{raw.as_posix()}": hash_file(raw),
        f"dvc.md5.{PREPARED.as_posix()}": hash_folder(PREPARED),
    }


def describe_result(run_id: str) -> str:
    """What a run's page says first: the experiment, the parameters that it changed, and the way to the files."""
    commit = find_baseline()
    committed = read_committed(commit)
    changes = [
        f"`{key}` {committed.get(key)} → {value}"
        for key, value in flatten(read_yaml(PARAMS)).items()
        if committed.get(key) != value
    ]
    experiment = os.environ.get("DVC_EXP_NAME")
    lines = [
        f"Experiment `{experiment}`." if experiment else "",
        f"Changed since commit {commit[:7]}: {', '.join(changes)}." if changes and committed else "",
        f"Its files: `python -m stages.history show {run_id}`.",
    ]
    return "\n\n".join(filter(None, lines))


def read_committed(commit: str) -> dict[str, Any]:
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


def ask_git(*args: str) -> str:
    """What git prints, or nothing where there is no git or no repository."""
    try:
        return subprocess.run(["git", *args], capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
