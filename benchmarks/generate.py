"""A larger table of the same kind: rows of the real one, drawn with replacement and perturbed.

    python -m benchmarks.generate --factor 100 --output big.csv
    python -m benchmarks.generate --factor 1000 --parts 20 --output big     a folder of Parquet files

Deterministic, and written a piece at a time, so that memory does not grow with the factor.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary

PIECE = 50  # times the real table's rows
NOISE = 0.02  # of a number's value, as a standard deviation


def perturb(rows: pd.DataFrame, dictionary: dict[str, Any], rng: np.random.Generator) -> pd.DataFrame:
    """Rows with each quantity a little off, still whole where it was whole, and within its range."""
    changed = {}
    for name, column in dictionary["columns"].items():
        if column["type"] == "number" and name != dictionary.get("id"):
            low, high = column.get("range", (None, None))
            noisy = np.round(rows[name].to_numpy() * (1 + NOISE * rng.standard_normal(len(rows))))
            changed[name] = np.clip(noisy, low, high)
    return rows.assign(**changed)


def draw_pieces(source: str, dictionary: dict[str, Any], factor: int, most: int) -> Iterator[pd.DataFrame]:
    """`factor` times the rows of a table, at most `most` times at once."""
    table = read_table(source, dictionary)
    rng, count = np.random.default_rng(factor), 0
    for first in range(0, factor, most):
        drawn = table.iloc[rng.integers(len(table), size=len(table) * min(most, factor - first))]
        piece = perturb(drawn, dictionary, rng)
        piece.index = pd.RangeIndex(count + 1, count + len(piece) + 1, name=dictionary["id"])
        yield piece
        count += len(piece)


def generate(source: str, dictionary: dict[str, Any], factor: int, output: Path) -> int:
    """Write `factor` times the rows of a table as CSV, and give their number."""
    count = 0
    output.unlink(missing_ok=True)
    for piece in draw_pieces(source, dictionary, factor, PIECE):
        piece.to_csv(output, mode="a", header=count == 0, na_rep="NA", float_format="%.0f")
        count += len(piece)
    return count


def generate_parts(source: str, dictionary: dict[str, Any], factor: int, output: Path, parts: int) -> int:
    """The same as a folder of so many Parquet files, or fewer, all of about one size."""
    output.mkdir()
    count = 0
    for number, piece in enumerate(draw_pieces(source, dictionary, factor, -(-factor // parts))):
        piece.reset_index().to_parquet(output / f"part-{number:04}.parquet")
        count += len(piece)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--factor", type=int, required=True, help="how many times the rows of the real table")
    parser.add_argument("--parts", type=int, default=0, help="a folder of so many Parquet files, or fewer, not one CSV")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    made = "data/raw/train.csv", read_dictionary("data/dictionary.yaml"), arguments.factor, arguments.output
    count = generate_parts(*made, arguments.parts) if arguments.parts else generate(*made)
    print(f"generate: {count:,} rows → {arguments.output}")


if __name__ == "__main__":
    main()
