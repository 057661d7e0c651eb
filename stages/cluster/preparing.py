"""The parts of a table → encoded parts: checked, split and encoded where they are read.

Each table of data/prepared/ is then a folder of files, one for each part that has rows, which reads as one table.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import joblib
import numpy as np
import pandas as pd
from distributed import Client
from fsspec.implementations.cache_mapper import BasenameCacheMapper
from pyarrow import parquet

from stages.cluster.connection import connect, map_parts
from stages.cluster.encoding import encode_part, fit_encoder
from stages.cluster.pieces import draw, hash_ids
from stages.shared.cli import InputError
from stages.shared.files import PREPARED, write_whole
from stages.shared.params import Data, Fit
from stages.table.checks import Tally, is_numeric, is_text
from stages.table.contract import Checked, check_part, choose_columns, require_whole
from stages.table.dictionary import read_dictionary
from stages.table.inference import complete_dictionary
from stages.table.reading import Dialect, find_dialect, join_some, read_names
from stages.table.splitting import require_both

PARTS = ("train", "test")
SUFFIXES = (".parquet", ".csv", ".csv.gz")
COPIES = {
    "cache_mapper": BasenameCacheMapper(directory_levels=9),  # their suffix says how they are read
    "check_files": True,  # a worker lives for days, and a part may be replaced under its name
}


class Found(NamedTuple):
    """What a part was found to hold: its faults, hashes of its ids, and how many training and test rows."""

    checked: Checked
    ids: np.ndarray
    rows: tuple[int, int]


def list_parts(path: str) -> list[str]:
    """The files of a folder, of a glob or of one file, here or where fsspec can reach, by name.

    Raises InputError if there are none.
    """
    try:
        files, folder = fsspec.core.url_to_fs(path)
        found = files.ls(folder, detail=False) if files.isdir(folder) else files.glob(folder)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    parts = sorted(name for name in found if name.endswith(SUFFIXES) and not Path(name).name.startswith((".", "_")))
    if not parts:
        raise InputError(f"{path}: no parts there: no file that ends in {', '.join(SUFFIXES)}")
    return [files.unstrip_protocol(part) if "://" in path else os.path.abspath(part) for part in parts]  # noqa: PTH100


def bring_here(part: str) -> str:
    """The path of a part on the machine that asks: its own, or that of a copy that lasts as long as the process, and is
    made anew once the part is another.
    """
    return fsspec.open_local(f"filecache::{part}", filecache=COPIES) if "://" in part else part


def name_kinds(part: str, dialect: Dialect) -> dict[str, str] | str:
    """What each column of a part is stored as; or what is wrong with the part."""
    try:
        path = bring_here(part)
        if not path.endswith(".parquet"):
            return dict.fromkeys(read_names(path, dialect), "text")
        read_names(path, dialect)
        return {field.name: name_kind(field.type) for field in parquet.read_schema(path)}
    except InputError as error:
        return str(error)


def name_kind(kind: Any) -> str:
    return "numbers" if is_numeric(kind) else "text" if is_text(kind) else str(kind)


def check_same(path: str, parts: list[str], kinds: Sequence[dict[str, str] | str]) -> None:
    """Raises InputError that lists all parts which cannot be read, or have other columns or types than the first."""
    good = [found for found in kinds if isinstance(found, dict)]
    faults = [found for found in kinds if isinstance(found, str)]
    for part, found in zip(parts, kinds, strict=True):
        if not isinstance(found, dict):
            continue
        name, first = Path(part).name, good[0]
        for word, names in (("lacks", first.keys() - found), ("has besides", found.keys() - first)):
            if names:
                faults.append(f"{name}: {word} {join_some(sorted(names))}")
        other = [f"{c} {found[c]} in place of {first[c]}" for c in first if found.get(c, first[c]) != first[c]]
        if other and Path(part).suffix == Path(parts[0]).suffix:
            faults.append(f"{name}: {join_some(other)}")
    if faults:
        raise InputError(f"{path}: {len(faults)} part(s) differ from the first, nothing written", faults)


def split_part(
    numbered: tuple[int, str], folder: Path, dictionary: dict[str, Any], log_target: bool, data: Data
) -> Found:
    """Check a part, and write its raw rows and targets, split by the hash of the id, each under its number."""
    number, part = numbered
    target = dictionary["target"]
    try:
        checked = check_part(bring_here(part), dictionary, log_target, may_be_empty=True)
    except InputError as error:
        faults = Tally("row")
        faults.rules[Path(part).name, str(error)] = (1, [], ["unknown"])
        return Found(Checked(pd.DataFrame(), faults, 0, set()), np.empty(0, np.uint64), (0, 0))
    rows = checked.rows
    if not len(rows):
        return Found(checked, np.empty(0, np.uint64), (0, 0))
    if "id" not in dictionary:
        rows = rows.set_index(pd.Index([f"{Path(part).name}:{place + 1}" for place in range(len(rows))], name="row"))
    is_test = draw(rows.index, data.seed, "split") < data.test_size
    for name, side in zip(PARTS, (rows[~is_test], rows[is_test]), strict=True):
        if len(side):
            y = side[[target]].set_axis(["target"], axis=1)
            y.to_parquet(folder / f"y_{name}.parquet" / name_part(number))
            side.drop(columns=target).to_parquet(folder / f"rows_{name}.parquet" / name_part(number))
    counts = int(np.sum(~is_test)), int(np.sum(is_test))
    return Found(
        Checked(rows.iloc[:0], checked.faults, checked.without_target, checked.filled), hash_ids(rows.index), counts
    )


def name_part(number: int) -> str:
    return f"part-{number:04}.parquet"


def find_twice(found: list[Found], path: str, folder: Path, parts: list[str]) -> None:
    """Raises InputError if an id stands in more than one part, with some of them and where. 8 bytes an id."""
    ids = np.sort(np.concatenate([part.ids for part in found]))
    twice = np.unique(ids[1:][ids[1:] == ids[:-1]])
    if not len(twice):
        return
    lines = []
    for number, part in enumerate(found):
        if np.isin(part.ids, twice[:5]).any():
            files = [folder / f"y_{name}.parquet" / name_part(number) for name in PARTS]
            index = pd.concat([pd.read_parquet(file) for file in files if file.exists()]).index
            shown = index[np.isin(hash_ids(index), twice[:5])]
            lines.append(
                f"{index.name}: must be unique, found {join_some([*map(str, shown)])} in {Path(parts[number]).name}"
            )
    raise InputError(f"{path}: {len(twice):,} id(s) stand in more than one part, nothing written", lines)


def check_parts(client: Client, data: Data, fit: Fit, folder: Path) -> dict[str, Any]:
    """Write checked raw rows and targets into a folder, and return the completed dictionary.

    Raises InputError with the faults of all parts.
    """
    dictionary = read_dictionary(data.dictionary, data.target)
    if data.split != "random":
        raise InputError(f"params.yaml: data.split = {data.split!r}: on a cluster, only random is known")
    parts = list_parts(data.path)
    check_same(data.path, parts, map_parts(client, name_kinds, parts, "columns", dialect=find_dialect(dictionary)))
    files = fsspec.core.url_to_fs(parts[0])[0]
    dictionary = complete_dictionary(bring_here(max(parts, key=files.size)), dictionary)
    shared = {"folder": folder, "dictionary": dictionary, "log_target": fit.log_target is True, "data": data}
    found = map_parts(client, split_part, list(enumerate(parts)), "prepare", **shared)
    require_whole(data.path, [part.checked for part in found], choose_columns(dictionary), dictionary["target"])
    find_twice(found, data.path, folder, parts)
    n_train, n_test = np.sum([part.rows for part in found], axis=0).tolist()
    require_both(n_train, n_test, data)
    return dictionary


def prepare_parts(address: str, data: Data, fit: Fit, choose_log: Callable[[Path, np.ndarray], None]) -> None:
    """What `prepare` does, on a cluster: data/prepared/ is written whole, or not at all.

    choose_log: decides for `fit.log_target: auto`, given the folder to write to and the target, (n_rows,).
    """
    with connect(address) as client, write_whole(PREPARED.resolve()) as folder:
        for kind in ("rows", "y", "X"):
            for name in PARTS:
                (folder / f"{kind}_{name}.parquet").mkdir(parents=True)
        dictionary = check_parts(client, data, fit, folder)
        rows = {name: sorted((folder / f"rows_{name}.parquet").iterdir()) for name in PARTS}
        encoder = fit_encoder(client, rows["train"], dictionary)
        if not encoder.feature_names_:
            raise InputError(f"{data.path}: nothing to learn from: no column is a feature that differs between rows")
        counts = {}
        for name in PARTS:
            shared = {"encoder": encoder, "training": name == "train", "folder": folder / f"X_{name}.parquet"}
            counts[name] = sum(map_parts(client, encode_part, rows[name], f"encode {name}", **shared))
        if fit.log_target == "auto":
            choose_log(folder, pd.read_parquet(folder / "y_train.parquet")["target"].to_numpy())
        joblib.dump(encoder, folder / "encoder.joblib")
    print(
        f"prepare: {sum(counts.values())} rows of {data.path} → {counts['train']} to train on, {counts['test']} to "
        f"test on, {len(encoder.get_feature_names_out())} features"
    )
