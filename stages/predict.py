"""predict: houses in a file → their prices, with the model in Production.

Reads   a CSV or Parquet table of raw rows, as data/raw/test.csv, and the registered model or a DVC model file
Writes  id and price of every row; beside it <output>.marks.csv, if values are outside the dictionary's ranges or
        levels (their rows are priced all the same), and <output>.rejects.csv, if --skip-bad left rows out
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stages.chunks import LARGEST, Finding, check_chunk, read_chunks
from stages.contract import describe_fault
from stages.edge import InputError, run_stage
from stages.files import write_whole

if TYPE_CHECKING:
    import pyarrow as pa
    from sklearn.pipeline import Pipeline

    from stages.features import Encoder

SECONDS_PER_LINE = 5  # of progress
CELLS = "must have one cell for each column"


class Chunk(NamedTuple):
    """Some rows of the file as it has them and as the model takes them, and what is wrong with them."""

    batch: "pa.RecordBatch"
    rows: pd.DataFrame
    ids: pd.Series
    faults: list[Finding]
    marks: list[Finding]
    lines: list[str]  # those without one cell for each column, which are in no batch
    share: float  # of the file, read so far


class Tally:
    """How often each rule is broken, with the first rows and values, so that memory stays flat."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, str], tuple[int, list[Any], list[Any]]] = {}

    def add(self, column: str, rule: str, values: Iterable[Any], ids: list[Any]) -> None:
        count, some_values, some_ids = self.rules.get((column, rule), (0, [], []))
        some_values = list(dict.fromkeys([*some_values, *values]))[:3]
        self.rules[column, rule] = (count + len(ids), some_values, [*some_ids, *ids][:5])

    def describe(self) -> list[str]:
        return [describe_fault(*rule, values, ids, count) for rule, (count, values, ids) in self.rules.items()]


class RowFile:
    """A CSV file that grows chunk by chunk."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path, self.count = path, 0
        pd.DataFrame(columns=columns).to_csv(path, index=False)

    def add(self, rows: pd.DataFrame) -> None:
        rows.to_csv(self.path, mode="a", header=False, index=False)
        self.count += len(rows)


class SeenIds:
    """The ids of all chunks so far, as a few sorted runs: 8 bytes an id, where a set would take 80."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def find_new(self, ids: np.ndarray) -> np.ndarray:
        """Which of these ids (n_rows,) are new; they count as seen from now on."""
        new = np.zeros(len(ids), dtype=bool)
        new[np.unique(ids, return_index=True)[1]] = True
        for run in self.runs:
            new &= run[np.minimum(np.searchsorted(run, ids), len(run) - 1)] != ids
        if new.any():
            self.runs.append(np.sort(ids[new]))
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            self.runs.append(np.sort(np.concatenate([self.runs.pop(), self.runs.pop()]), kind="stable"))
        return new


def check_ids(name: str, ids: np.ndarray, bad: np.ndarray, seen: SeenIds) -> list[Finding]:
    """The rows whose id (float64, NaN where there is none) is missing, not whole, or there already."""
    missing, broken = np.isnan(ids), ids % 1 > 0
    usable = np.flatnonzero(~missing & ~broken & ~bad)
    twice = usable[~seen.find_new(ids[usable].astype(np.int64))]
    found = {
        "must not be missing": np.flatnonzero(missing & ~bad),
        "must be a whole number": np.flatnonzero(broken & ~bad),
        "must be unique": twice,
    }
    return [Finding(name, rule, where, ids[where].tolist()) for rule, where in found.items() if where.size]


def check_file(path: str, encoder: "Encoder") -> Iterator[Chunk]:
    """The file chunk by chunk, held against the dictionary that the model was trained with."""
    dictionary = encoder.dictionary
    id_name = dictionary.get("id")
    numbers = {name: column["type"] in ("number", "code") for name, column in encoder.columns_.items()}
    if id_name:
        numbers[id_name] = True
    seen, lines, start = SeenIds(), list[str](), 0
    for batch, share in read_chunks(path, numbers, lines.append):
        rows, faults, marks = check_chunk(batch, numbers, dictionary.get("columns") or {})
        place = np.arange(start, start + len(rows))
        ids = pd.Series(place, name="row")
        if id_name:
            values = rows[id_name].to_numpy()
            faults += check_ids(id_name, values, flag_rows(faults, len(rows)), seen)
            unnamed = ~(np.abs(values) <= LARGEST) | (values % 1 != 0)
            ids = pd.Series(np.where(unnamed, -1, values).astype(np.int64), name=id_name)
            if unnamed.any():
                ids = ids.astype(object).where(~unnamed, [f"(row {row + 1})" for row in place])
        yield Chunk(batch, rows, ids, faults, marks, lines.copy(), share)
        lines.clear()
        start += len(rows)


def flag_rows(findings: list[Finding], n_rows: int) -> np.ndarray:
    flags = np.zeros(n_rows, dtype=bool)
    for finding in findings:
        flags[finding.positions] = True
    return flags


def list_marks(chunk: Chunk) -> pd.DataFrame:
    """One line for each value outside its range or levels."""
    ids = chunk.ids
    tables = [
        pd.DataFrame(
            {ids.name: ids.iloc[mark.positions], "column": mark.column, "value": mark.found, "rule": mark.rule}
        )
        for mark in chunk.marks
    ]
    return pd.concat(tables).sort_index(kind="stable")


def list_rejects(chunk: Chunk) -> pd.DataFrame:
    """The rows with a fault as the file has them, with one more column that says what to put right."""
    import pyarrow as pa

    bad = np.flatnonzero(flag_rows(chunk.faults, len(chunk.rows))).tolist()
    reasons: dict[int, list[str]] = {position: [] for position in bad}
    for fault in chunk.faults:
        for position in fault.positions:
            reasons[int(position)].append(f"{fault.column} {fault.rule}")
    rows = (
        chunk.batch.take(pa.array(bad, pa.int64()))
        .to_pandas()
        .assign(fault=["; ".join(reason) for reason in reasons.values()])
    )
    lines = pd.DataFrame({"fault": [f"{CELLS}, found {line}" for line in chunk.lines]})
    return pd.concat([rows, lines.reindex(columns=rows.columns)]) if chunk.lines else rows


def price_chunks(
    pipeline: "Pipeline", chunks: Iterable[Chunk], marks: RowFile, rejects: RowFile | None, faults: Tally
) -> Iterator[tuple[pd.DataFrame, float]]:
    """Id and price in dollars of the rows without a fault, and the share of the file that is done.

    Without a file for rejects, the prices end at the first fault, but the rest of the file is still checked.
    """
    target = pipeline["encoder"].dictionary["target"]
    for chunk in chunks:
        for fault in chunk.faults:
            faults.add(fault.column, fault.rule, fault.found, chunk.ids.iloc[fault.positions].tolist())
        if chunk.lines:
            faults.add("line", CELLS, chunk.lines, ["unknown"] * len(chunk.lines))
        if rejects is None and faults.rules:
            continue
        ids, rows = chunk.ids, chunk.rows
        if rejects and (chunk.faults or chunk.lines):
            rejects.add(list_rejects(chunk))
            good = ~flag_rows(chunk.faults, len(rows))
            ids, rows = ids[good].astype(np.int64), rows[good]
        if chunk.marks:
            marks.add(list_marks(chunk))
        if len(rows):
            yield pd.DataFrame({ids.name: ids, target: np.round(pipeline.predict(rows), 2)}), chunk.share


def write_prices(path: Path, prices: Iterable[pd.DataFrame]) -> int:
    """Write prices as CSV or Parquet by the path's suffix, and give their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    writer, count = None, 0
    try:
        for frame in prices:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                options = (
                    {} if path.suffix == ".parquet" else {"write_options": csv.WriteOptions(quoting_header="none")}
                )
                writer = (pq.ParquetWriter if path.suffix == ".parquet" else csv.CSVWriter)(
                    path, table.schema, **options
                )
            writer.write_table(table)
            count += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return count


def show_progress(priced: Iterable[tuple[pd.DataFrame, float]]) -> Iterator[pd.DataFrame]:
    """Pass the prices on, with a line on stderr every few seconds."""
    started = shown = time.monotonic()
    count = 0
    for frame, share in priced:
        yield frame
        count += len(frame)
        now = time.monotonic()
        if now - shown >= SECONDS_PER_LINE:
            shown = now
            print(f"predict: {share:4.0%}, {count:,} rows, {count / (now - started):,.0f} a second", file=sys.stderr)


def find_uri(model: str) -> str:
    """What --model names, as MLflow's address, with MLflow connected to the project's store.

    model: a stage or version of the registered model, @alias, or an address of MLflow's.
    """
    from stages import tracking  # first: it sets what MLflow reads when it is imported

    tracking.connect()
    from stages.registry import REGISTERED_MODEL

    if ":/" in model:
        return model
    return f"models:/{REGISTERED_MODEL}{model if model.startswith('@') else f'/{model}'}"


def load_registered(uri: str, load: Callable[[Any, str], Any]) -> Any:
    """The model at an address of MLflow's, as `load` gets it. Raises InputError if there is none."""
    import mlflow

    from stages.store import find_uri as find_store
    from stages.tracking import first_line

    try:
        return load(mlflow, uri)
    except (mlflow.MlflowException, OSError) as error:
        raise InputError(f"{uri}: no such model in {find_store()}: {first_line(error)[:200]}") from None


def load_pipeline(model: str) -> "Pipeline":
    """The pipeline from raw rows to dollars: from a DVC model file, or else from the registry."""
    if not Path(model).is_file():
        return load_registered(find_uri(model), lambda mlflow, uri: mlflow.sklearn.load_model(uri))

    import joblib

    from stages.promotion import UNUSABLE

    try:
        pipeline = joblib.load(model)
        pipeline["encoder"].columns_  # noqa: B018
    except UNUSABLE as error:
        raise InputError(f"{model}: not a model file of this project: {str(error)[:200]}") from None
    return pipeline


def find_paths(source: str, output: str) -> tuple[Path, Path, Path]:
    """Where prices, marks and rejects go. Raises InputError for a suffix that is not known, or the input itself."""
    path = Path(output)
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"--output {output}: must end in .csv or .parquet")
    if path.resolve() == Path(source).resolve() or path.is_dir():
        raise InputError(f"--output {output}: must be another file than the input, and no folder")
    return path, path.with_suffix(".marks.csv"), path.with_suffix(".rejects.csv")


def predict_file(pipeline: "Pipeline", source: str, output: str, *, skip_bad: bool) -> str:
    """Write the prices of a file whole or not at all, and say what was done. Raises InputError with every fault."""
    paths = find_paths(source, output)
    encoder, faults = pipeline["encoder"], Tally()
    id_name = encoder.dictionary.get("id") or "row"
    names = [*encoder.columns_, *([encoder.dictionary["id"]] if "id" in encoder.dictionary else [])]
    with threadpool_limits(1), ExitStack() as stack:  # chunks are too small to share out among threads
        parts = [stack.enter_context(write_whole(path)) for path in paths]
        marks = RowFile(parts[1], [id_name, "column", "value", "rule"])
        rejects = RowFile(parts[2], [*names, "fault"])
        priced = price_chunks(pipeline, check_file(source, encoder), marks, rejects if skip_bad else None, faults)
        count = write_prices(parts[0], show_progress(priced))
        if faults.rules and (not skip_bad or not count):
            listed = "\n".join(f"  {fault}" for fault in faults.describe())
            raise InputError(f"{source}: {len(faults.rules)} fault(s), nothing written\n{listed}")
    said = [f"predict: {count:,} rows of {source} → {output}"]
    for file, path, what in (
        (marks, paths[1], "value(s) outside the dictionary's ranges or levels, priced all the same"),
        (rejects, paths[2], "row(s) left out"),
    ):
        if file.count:
            said.append(f"predict: {file.count:,} {what} → {path}")
        else:
            path.unlink()
    return "\n".join(said)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m stages.predict data/raw/test.csv --output predictions.csv",
    )
    parser.add_argument("input", help="table of raw rows, .csv or .parquet, with id and every feature column")
    parser.add_argument("--output", required=True, help="where the prices go, .csv or .parquet")
    parser.add_argument(
        "--model",
        default="Production",
        help="stage or version (7) of the registered model, @alias, an address (models:/... or runs:/...), or a "
        "model file of DVC's (models/xgboost; opening one runs code in it: use your own); default: Production",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave rows with a fault out instead of ending with 1")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    find_paths(args.input, args.output)
    pipeline = load_pipeline(args.model)
    print(predict_file(pipeline, args.input, args.output, skip_bad=args.skip_bad))


if __name__ == "__main__":
    run_stage(main)
