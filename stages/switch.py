"""switch: from the table that is here to another: a new one, or one that git has from before.

Reads   params.yaml and git; for a new table its file, and its dictionary if there is one
Writes  params.yaml; for a new table a copy in data/raw/ and its drafted dictionary in data/. What the pipeline made of
        the other table (dvc.lock, data/prepared/, models/, scores/, plots/, metrics/) goes; for a table from before,
        git and DVC bring its own back

MLflow is left alone: each table has an experiment and a registered model of its own.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stages.describe import draft_table, write_draft
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import PREPARED, require_file, require_writable, write_whole
from stages.shared.git import ask_git
from stages.shared.params import PARAMS, read_mapping, write_params
from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary
from stages.table.inference import complete_dictionary

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
FOLDERS = [PREPARED, *map(Path, ("models", "scores", "plots", "metrics"))]
WRITTEN = ["data", "mlflow", "fit", "register"]  # the sections of params.yaml that a new table changes
RESULTS = ["dvc.lock", "metrics"]  # what git keeps of a run


def run_git(*args: str) -> str:
    """What git prints. Raises InputError with what it says if it fails."""
    try:
        done = subprocess.run(["git", *args], capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise InputError("git is not installed; it keeps the results of each table") from None
    if done.returncode:
        raise InputError(f"git {args[0]}: {done.stderr.strip()}")
    return done.stdout


def require_saved(*paths: str) -> None:
    """Raises InputError if one of these files stands here as git does not have it, in no commit."""
    lines = run_git("status", "--porcelain", "--untracked-files=all", "--", *paths).splitlines()
    changed = [line[3:].strip('"') for line in lines if "D" not in line[:2]]
    unsaved = [path for path in changed if ask_git("cat-file", "-t", run_git("hash-object", path).strip()) != "blob"]
    if unsaved:
        rest = f" and {len(unsaved) - 1} more" if unsaved[1:] else ""
        raise InputError(
            f"git does not have {unsaved[0]}{rest} as they are here: commit them, or drop them with --force "
            "(make: FORCE=1)"
        )


def empty_results() -> None:
    """Take away what the pipeline made of the table. DVC's cache keeps what a committed dvc.lock names."""
    for folder in FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    Path("dvc.lock").unlink(missing_ok=True)


def find_place(file: str, folder: str, name: str) -> Path:
    """Where a file is to lie: where it does, if that is in the project, or else in a folder of it, named after the
    table. Raises InputError if another lies there, or if it lies where results are taken away.
    """
    source, root = require_file(file).resolve(), Path.cwd().resolve()
    if taken := [folder for folder in FOLDERS if source.is_relative_to(root / folder)]:
        raise InputError(f"{file}: {taken[0]}/ is emptied for the new table; move the file out of it first")
    if source.is_relative_to(root):
        return source.relative_to(root)
    path = Path(folder, name.lower() + "".join(source.suffixes[-2:]))
    if path.exists() and (not path.is_file() or path.read_bytes() != source.read_bytes()):
        raise InputError(f"{path}: another file lies there; move it away, or choose another name than {name}")
    return path


def put_in_place(file: str, path: Path) -> None:
    if not path.exists():
        with write_whole(path) as part:
            shutil.copyfile(file, part)


def choose_files(name: str, table: str, dictionary: str | None, *, force: bool) -> tuple[Path, Path]:
    """Where a new table and its dictionary are to lie. Raises InputError if something stands in the way."""
    if not table:
        raise InputError("--table (make: TABLE=): which file?")
    place, here = find_place(table, "data/raw", name), {key: read_mapping(key) for key in WRITTEN}
    for used in [here, *(content for _, content in read_commits(PARAMS))]:
        if used["mlflow"].get("registered_model") == name and used["data"].get("path") != place.as_posix():
            raise InputError(f"{name} is the model of {used['data'].get('path')}; choose another name")
    described = find_place(dictionary, "data", name) if dictionary else Path("data", f"{name.lower()}.yaml")
    if not (dictionary and described.exists()):
        require_writable(described, "the dictionary")
    if described.exists() and not dictionary and not force:
        raise InputError(
            f"{described}: exists already; --dictionary {described} takes it as it is, --force drafts it again "
            f"(make: DICTIONARY={described}, FORCE=1)"
        )
    return place, described


def start_table(name: str, table: str, target: str | None, dictionary: str | None, *, force: bool) -> None:
    """Put a new table and its dictionary in the place of those that are here."""
    place, described = choose_files(name, table, dictionary, force=force)
    if not force:
        require_saved(*RESULTS)
    if dictionary:
        read_table(table, complete_dictionary(table, read_dictionary(dictionary, target)), log_target=False)
        put_in_place(dictionary, described)
    elif target:
        write_draft(draft_table(table, target), table, described)
    else:
        raise InputError("--target (make: TARGET=): which column is to be learned?")
    put_in_place(table, place)
    empty_results()
    data = {"path": place.as_posix(), "dictionary": described.as_posix(), "target": target if dictionary else None}
    data |= {"split": "random"}
    names = {"experiment": name, "registered_model": name}
    write_params({"data": data, "mlflow": names, "fit": {"log_target": "auto"}, "register": {"min_test_r2": None}})


def bring_back(name: str, *, force: bool) -> None:
    """Put back what the last commit with this registered model has; outputs that are not in DVC's cache stay away."""
    commit = find_commit(name)
    if not force:
        require_saved(PARAMS, *RESULTS)
    content = read_commit(commit)["data"]
    lost = [path for key in ("path", "dictionary") if (path := content.get(key)) and not Path(path).exists()]
    known = run_git("ls-tree", "--name-only", commit, "--", PARAMS, *RESULTS, *lost).splitlines()
    empty_results()
    run_git("restore", "--source", commit, "--worktree", "--", *known)
    command = [sys.executable, "-m", "dvc", "checkout", "--quiet", "--allow-missing"]
    subprocess.run(command, check=False)


def find_commit(name: str) -> str:
    """The last commit with this registered model. Raises InputError if there is none."""
    for commit, content in read_commits(PARAMS, *RESULTS):
        if content["mlflow"].get("registered_model") == name:
            return commit
    raise InputError(f"no commit has a table whose registered_model is {name}; a new one needs --table and --target")


def read_commits(*paths: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The commits that changed some files, newest first, each with its params.yaml, if that names table and model."""
    for commit in run_git("rev-list", "HEAD", "--", *paths).split():
        content = read_commit(commit)
        if all(isinstance(content.get(key), dict) for key in ("data", "mlflow")):
            yield commit, content


def read_commit(commit: str) -> dict[str, Any]:
    """params.yaml as a commit has it; nothing if it has none, or one that is no settings file."""
    try:
        content = yaml.safe_load(ask_git("show", f"{commit}:./{PARAMS}"))
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def main() -> None:
    parser = make_parser("switch", __doc__, "Apples --table apples.csv --target weight")
    parser.add_argument("name", help="of the experiment and the registered model: letters, digits, - and _")
    parser.add_argument("--table", help="a new table; without it, the last that git has with this registered model")
    parser.add_argument("--target", help="the column to be learned")
    parser.add_argument("--dictionary", help="a dictionary of the new table (default: one is drafted)")
    parser.add_argument("--force", action="store_true", help="drop results, and a draft, that git does not have")
    args = parser.parse_args()
    if not NAME.fullmatch(args.name):
        raise InputError(
            f"name (make: NAME=) {args.name!r:.60}: must be letters, digits, - and _, and begin with a letter"
        )
    if args.table is None:
        bring_back(args.name, force=args.force)
    else:
        start_table(args.name, args.table, args.target or None, args.dictionary or None, force=args.force)
    print("Next: make repro")


if __name__ == "__main__":
    run_command(main)
