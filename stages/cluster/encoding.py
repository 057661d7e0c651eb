"""The encoder of prepared parts, fitted and applied where they are."""

from collections.abc import Callable
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import pandas as pd
from distributed import Client

from stages.cluster.connection import collect
from stages.table.encoder import Encoder, replace_columns


def read_rows(file: Path, target: str) -> pd.DataFrame:
    """Raw rows of a prepared part, with their target."""
    folder = file.parent
    y = pd.read_parquet(folder.with_name(folder.name.replace("rows_", "y_")) / file.name)["target"]
    return replace_columns(pd.read_parquet(file), {target: y})


def count_rows(file: Path, count: Callable[[pd.DataFrame], Any], target: str) -> Any:
    return count(read_rows(file, target))


def fit_encoder(client: Client, files: list[Path], dictionary: dict[str, Any]) -> Encoder:
    """The encoder of raw rows and targets, part by part: to the bit that of one table."""

    def total(count: Callable[[pd.DataFrame], Any]) -> Any:
        futures = client.map(partial(count_rows, count=count, target=dictionary["target"]), files, pure=False)
        while len(futures) > 1:  # in pairs, so that no worker holds more than two sums
            pairs = [futures[first : first + 2] for first in range(0, len(futures), 2)]
            futures = [client.submit(add, *pair, pure=False) if len(pair) == 2 else pair[0] for pair in pairs]
        return collect(client, futures, "encoder")[0]

    return Encoder(dictionary).fit_parts(total)


def encode_part(file: Path, encoder: Encoder, training: bool, folder: Path) -> int:
    """Write the features of a prepared part of raw rows under its name into a folder, and return their number."""
    rows = read_rows(file, encoder.dictionary["target"])
    X = encoder.transform_training(rows) if training else encoder.transform(rows)
    frame = pd.DataFrame(X, index=rows.index, columns=encoder.get_feature_names_out())
    frame.to_parquet(folder / file.name)
    return len(rows)
