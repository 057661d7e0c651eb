"""predict: raw rows in a file → their predictions, with the model in Production.

Reads   a CSV or Parquet table of raw rows, as data/raw/test.csv, and the registered model or a DVC model file
Writes  id and prediction of every row; beside it <output>.marks.csv, if values are outside the dictionary's ranges or
        levels (their rows are predicted all the same), and <output>.rejects.csv, if --skip-bad left rows out
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet
from threadpoolctl import threadpool_limits

from stages.model.metrics import round_amounts
from stages.registry.loading import add_model_arguments, open_model
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import require_file, require_writable, write_whole
from stages.table.checks import (
    CELLS,
    Finding,
    Rule,
    Tally,
    check_batch,
    flag_rows,
    holds_numbers,
    make_rules,
)
from stages.table.ids import SeenIds, check_ids
from stages.table.reading import find_dialect, read_batches
from stages.table.side_files import SideFile, find_free

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from stages.table.encoder import Encoder

SECONDS_PER_LINE = 5  # of progress


@dataclass
class Chunk:
    """Some rows of the file as it has them and as the model takes them, and what is wrong with them."""

    batch: pa.RecordBatch
    rows: pd.DataFrame
    ids: pd.Series
    faults: list[Finding]
    marks: list[Finding]
    lines: list[str]  # those without one cell for each column, which are in no batch
    share: float  # of the file, read so far


def list_columns(encoder: "Encoder") -> dict[str, bool]:
    """The columns that a model reads, with the id, and whether they hold numbers."""
    numbers, dictionary = {name: column.is_number for name, column in encoder.columns_.items()}, encoder.dictionary
    return numbers | ({dictionary["id"]: holds_numbers(dictionary["id"], dictionary)} if "id" in dictionary else {})


def check_file(path: str, encoder: "Encoder") -> Iterator[Chunk]:
    """The file chunk by chunk, held against the dictionary that the model was trained with."""
    id_name, numbers = encoder.dictionary.get("id"), list_columns(encoder)
    rules: list[Rule] = make_rules(numbers, encoder.dictionary)
    seen, lines, start = SeenIds(), list[str](), 1
    for batch, share in read_batches(path, numbers, lines.append, find_dialect(encoder.dictionary)):
        rows, faults, marks = check_batch(batch, rules)
        ids = pd.Series(np.arange(start, start + len(rows)), name="row")
        if id_name:
            faults += check_ids(rows[id_name], flag_rows(faults, len(rows)), seen)
            ids = name_rows(rows[id_name], flag_rows(faults, len(rows)), ids).rename(id_name)
        yield Chunk(batch, rows, ids, faults, marks, lines.copy(), share)
        lines.clear()
        start += len(rows)


def name_rows(ids: pd.Series, bad: np.ndarray, places: pd.Series) -> pd.Series:
    """Ids as text or whole numbers; where a row is bad and its id is none, its place in the file."""
    if ids.dtype == float:
        unnamed = bad & (ids.isna() | (ids != np.round(ids))).to_numpy()
        ids = pd.Series(np.where(unnamed | (np.abs(ids) > 2**63), 0, ids).astype(np.int64))
    else:
        unnamed, ids = bad & ids.isna().to_numpy(), ids.astype("str")
    return ids.astype(object).where(~unnamed, [f"(row {place})" for place in places]) if unnamed.any() else ids


def list_marks(chunk: Chunk) -> pd.DataFrame:
    """One line for each value outside its range or levels."""
    ids = chunk.ids
    tables = [
        pd.DataFrame({"id": ids.iloc[mark.positions], "column": mark.column, "value": mark.found, "rule": mark.rule})
        for mark in chunk.marks
    ]
    return pd.concat(tables).sort_index(kind="stable")  # the file has the id's own name


def list_rejects(chunk: Chunk) -> pd.DataFrame:
    """The rows with a fault as the file has them, with one more column that says what to put right."""
    bad = np.flatnonzero(flag_rows(chunk.faults, len(chunk.rows))).tolist()
    reasons: dict[int, list[str]] = {position: [] for position in bad}
    for fault in chunk.faults:
        for position in fault.positions:
            reasons[int(position)].append(f"{fault.column} {fault.rule}")
    taken = chunk.batch.take(pa.array(bad, pa.int64())).to_pandas().astype(object)
    name = find_free("fault", taken.columns)
    rows = taken.assign(**{name: ["; ".join(reason) for reason in reasons.values()]})
    lines = pd.DataFrame({name: [f"{CELLS}, found {line}" for line in chunk.lines]})
    return pd.concat([rows, lines.reindex(columns=rows.columns)]) if chunk.lines else rows


def predict_chunks(
    pipeline: "Pipeline", chunks: Iterable[Chunk], marks: SideFile, rejects: SideFile | None, faults: Tally
) -> Iterator[tuple[pd.DataFrame, float]]:
    """Id and prediction of the rows without a fault, and the share of the file that is done.

    Without a file for rejects, the predictions end at the first fault, but the rest of the file is still checked.
    """
    target = pipeline["encoder"].dictionary["target"]
    for chunk in chunks:
        faults.add(chunk.faults, chunk.ids)
        faults.add_lines(chunk.lines)
        if rejects is None and faults.rules:
            continue
        ids, rows = chunk.ids, chunk.rows
        if rejects and (chunk.faults or chunk.lines):
            rejects.add(list_rejects(chunk))
            good = ~flag_rows(chunk.faults, len(rows))
            ids, rows = ids[good].infer_objects(), rows[good]
        if chunk.marks:
            marks.add(list_marks(chunk))
        if len(rows):
            name = ids.name if "id" in pipeline["encoder"].dictionary else find_free("row", [target])
            yield pd.DataFrame({name: ids, target: round_amounts(pipeline.predict(rows))}), chunk.share


def write_predictions(path: Path, predictions: Iterable[pd.DataFrame]) -> int:
    """Write predictions as CSV or Parquet by the path's suffix, and return their number."""
    writer, count = None, 0
    try:
        for frame in predictions:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None and path.suffix == ".parquet":
                writer = parquet.ParquetWriter(path, table.schema)
            elif writer is None:
                quoted = any(set(name) & set(',"\r\n') for name in table.schema.names)
                options = csv.WriteOptions(quoting_header="needed" if quoted else "none")  # "needed" quotes all
                writer = csv.CSVWriter(path, table.schema, write_options=options)
            writer.write_table(table)
            count += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return count


def show_progress(predicted: Iterable[tuple[pd.DataFrame, float]]) -> Iterator[pd.DataFrame]:
    """Pass the predictions on, with a line on stderr every few seconds."""
    started = shown = time.monotonic()
    count = 0
    for frame, share in predicted:
        yield frame
        count += len(frame)
        now = time.monotonic()
        if now - shown >= SECONDS_PER_LINE:
            shown = now
            print(f"predict: {share:4.0%}, {count:,} rows, {count / (now - started):,.0f} a second", file=sys.stderr)


def find_paths(source: str, output: str) -> tuple[Path, Path, Path]:
    """Where predictions, marks and rejects go. Raises InputError for no input, a suffix that is not known, a folder
    that can't be written to, or if one of the three is the input.
    """
    require_file(source)
    path = Path(output)
    if path.suffix not in (".csv", ".parquet") or "://" in output:
        raise InputError(f"--output {output}: must be a file here that ends in .csv or .parquet")
    paths = (path, path.with_suffix(".marks.csv"), path.with_suffix(".rejects.csv"))
    try:
        for taken in paths:
            if taken.resolve() == Path(source).resolve() or (taken.exists() and taken.samefile(source)):
                raise InputError(f"--output {output}: {taken.name} would take the place of the input; choose another")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"--output {output[:200]}: {getattr(error, 'strerror', None) or error}") from None
    for written in paths:
        require_writable(written, "--output")
    return paths


def predict_file(pipeline: "Pipeline", source: str, output: str, *, skip_bad: bool) -> str:
    """Write the predictions for a file whole or not at all; return what was done. Raises InputError with its faults."""
    paths = find_paths(source, output)
    encoder = pipeline["encoder"]
    id_name, faults = encoder.dictionary.get("id", "row"), Tally("id" if "id" in encoder.dictionary else "row")
    with threadpool_limits(1), ExitStack() as stack:  # chunks are too small to share out among threads
        parts = [stack.enter_context(write_whole(path, optional=path != paths[0])) for path in paths]
        marks = SideFile(parts[1], [id_name, "column", "value", "rule"])
        columns = [*list_columns(encoder)]
        rejects = SideFile(parts[2], [*columns, find_free("fault", columns)])
        chunks = check_file(source, encoder)
        predicted = predict_chunks(pipeline, chunks, marks, rejects if skip_bad else None, faults)
        count = write_predictions(parts[0], show_progress(predicted))
        if faults.rules and (not skip_bad or not count):
            raise InputError(f"{source}: {len(faults.rules)} fault(s), nothing written", faults.describe())
        for side in (marks, rejects):
            if not side.count:
                side.path.unlink()
    said = [f"predict: {count:,} rows of {source} → {output}"]
    marked = "value(s) outside the dictionary's ranges or levels, predicted all the same"
    for side, path, what in ((marks, paths[1], marked), (rejects, paths[2], "row(s) left out")):
        if side.count:
            said.append(f"predict: {side.count:,} {what} → {path}")
        elif path.exists():
            said.append(f"predict: {path} is of an earlier run")
    return "\n".join(said)


def main() -> None:
    parser = make_parser("predict", __doc__, "data/raw/test.csv --output predictions.csv")
    parser.add_argument("input", help="table of raw rows, .csv or .parquet; a folder or glob of parts on a cluster")
    parser.add_argument("--output", required=True, help="where the predictions go, .csv or .parquet")
    parser.add_argument("--skip-bad", action="store_true", help="leave rows with a fault out instead of ending with 1")
    add_model_arguments(parser)
    args = parser.parse_args()
    if os.path.isdir(args.input) or "*" in args.input:  # noqa: PTH112 - Path's raises for a name that is too long
        from stages.cluster.predicting import predict_parts

        own = import_module(__spec__.name)  # by its name: workers do not have __main__
        print(predict_parts(own.predict_file, open_model, args))
        return
    find_paths(args.input, args.output)
    pipeline = open_model(args.model, trust=args.trust)
    print(predict_file(pipeline, args.input, args.output, skip_bad=args.skip_bad))


if __name__ == "__main__":
    run_command(main)
