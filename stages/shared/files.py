"""Files as the stages use them: whole or not at all, and known by the hash that DVC knows them by."""

import hashlib
import json
import os
import pickle
import shutil
import zlib
from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from zipfile import BadZipFile

import yaml

from stages.shared.cli import InputError

PREPARED = Path("data/prepared")
PLOTS = Path("plots")  # predictions, features and learning of all models (.csv), which `dvc plots` draws
TARGET = PREPARED / "target.json"  # whether its log is learned, if prepare was to choose
CHAMPION = Path("metrics/champion.json")
CARD = Path("metrics/champion.md")
LARGEST_YAML = 2**21  # bytes
MOST_NODES = 50_000  # values in a YAML file, with every alias written out
MOST_BITS = 4096  # of a whole number in a YAML file; Python refuses to print much larger ones
DAMAGED = (  # what reading or running a damaged or outdated file was seen to raise
    ArithmeticError,
    AttributeError,
    BadZipFile,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    pickle.UnpicklingError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)


def stage_of(name: str) -> str:
    """The DVC stage that writes a model."""
    return name if name in ("blend", "champion") else f"train@{name}"


def model_file(name: str) -> Path:
    return Path("models", name)


def metrics_file(name: str) -> Path:
    return Path("metrics", f"{name}.json")


def scores_folder(name: str) -> Path:
    """What a model predicts and weighs: predictions, out_of_fold, features and learning (.csv), and model.json."""
    return Path("scores", name) if name == "blend" else Path("scores/models", name)


def require_file(path: str | Path) -> Path:
    """The path, if it is one of a regular file. Raises InputError for a folder, a device, a pipe or nothing."""
    try:
        if Path(path).is_file():
            return Path(path)
        reason = "not a regular file" if Path(path).exists() else "no such file"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise InputError(f"{str(path)[:200]}: {reason}")


def require_writable(path: Path, option: str) -> None:
    """Make the folder of a file that an option names. Raises InputError if no file can be written there."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{option} {path}: must be a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()  # a folder may exist, and take no file
        [part.exists() for part in name_parts(path)]  # nor may a name be too long
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{option} {str(path)[:200]}: {getattr(error, 'strerror', None) or error}") from None


def hash_file(path: str | Path) -> str:
    """md5 of a file's bytes: the name under which DVC stores it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def hash_folder(path: str | Path, but: Collection[str] = ()) -> str:
    """md5 of a folder as DVC has it: that of the list of its files and their md5s, with `.dir` behind.

    but: as `list_folder`.
    """
    listed = [{"md5": hash_file(file), "relpath": file.relative_to(path).as_posix()} for file in list_folder(path, but)]
    return hash_content(sorted(listed, key=itemgetter("relpath"))) + ".dir"


def list_folder(path: str | Path, but: Collection[str] = ()) -> list[Path]:
    """All files below a folder. but: names of files and folders that are left out."""
    found = [file for file in Path(path).rglob("*") if set(but).isdisjoint(file.relative_to(path).parts)]
    return sorted(file for file in found if file.is_file())


def hash_content(content: Any) -> str:
    """md5 of data as JSON."""
    return hashlib.md5(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def hash_table(path: str) -> str:
    """md5 of the table to learn from, a file or a folder of parts, or where to look for that of one elsewhere."""
    if "://" in path:
        return "see dvc.lock"
    return hash_folder(path) if Path(path).is_dir() else hash_file(path)


def name_parts(path: Path) -> list[Path]:
    """Where the new and the old file or folder of a name lie while one takes the place of the other."""
    return [path.with_name(f".part-{os.getpid()}-{kind}{path.name}") for kind in ("", "old-")]


@contextmanager
def write_whole(path: str | Path, *, optional: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder, that takes its name only when the block ends well.

    A reader, or a process killed half-way, never sees half of it. With `optional`, the block may write nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, old = name_parts(path)
    try:
        yield part
        if part.is_dir() and path.exists():
            path.rename(old)
        if part.exists() or not optional:
            part.replace(path)
    finally:
        if old.exists() and not path.exists():  # ended between the two
            old.rename(path)
        for rest in (part, old):
            if rest.is_dir():
                shutil.rmtree(rest)
            else:
                rest.unlink(missing_ok=True)


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    with write_whole(path) as part:
        write_text(part, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """The same bytes on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON file that the pipeline wrote. Raises InputError if it is missing or damaged."""
    try:
        content = json.loads(require_file(path).read_text())
    except ValueError as error:
        raise describe_damage(path, error) from None
    if not isinstance(content, dict):
        raise describe_damage(path, TypeError("no object"))
    return content


def describe_damage(path: str | Path, error: Exception) -> InputError:
    """What to say of a file of the pipeline that is not as it was written."""
    said = f"{type(error).__name__}: {error!s:.200}"
    return InputError(f"{path}: not what a stage writes ({said}); run `dvc checkout`, or `dvc repro`")


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the last one's, and which ends at MOST_NODES values."""

    left = MOST_NODES

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.left -= 1
        if self.left < 0:
            raise OverflowError
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises InputError if there is none, or one that is no settings file by size."""
    file = require_file(path)
    try:
        if file.stat().st_size > LARGEST_YAML:
            raise InputError(f"{path}: larger than {LARGEST_YAML / 2**20:g} MB")
        content = yaml.load(file.read_text(encoding="utf-8"), UniqueKeys)  # noqa: S506 - a SafeLoader with one rule more
        count_nodes(content, MOST_NODES)
    except RecursionError:
        raise InputError(f"{path}: too many brackets inside each other") from None
    except OverflowError:
        raise InputError(f"{path}: more than {MOST_NODES:,} values") from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a YAML file: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def count_nodes(content: Any, left: int) -> int:
    """How many of `left` values remain after counting. Raises OverflowError if there are more, ValueError for a number
    that is too long to print.
    """
    if left <= 0:
        raise OverflowError
    if isinstance(content, int) and content.bit_length() > MOST_BITS:
        raise ValueError("a number of more than 1,000 digits")
    inner = [*content, *content.values()] if isinstance(content, dict) else content
    for value in inner if isinstance(inner, list) else ():
        left = count_nodes(value, left - 1)
    return left
