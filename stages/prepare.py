"""prepare: the raw table → encoded training and test rows, and the encoder that made them.

Reads   params.yaml (data, fit.log_target, cluster), the table and the dictionary that it names
Writes  data/prepared/: X_train, X_test, y_train, y_test and the raw rows behind them, rows_train and rows_test
        (.parquet, indexed by id), and encoder.joblib; y_train also has what `data.split` keeps apart; target.json says
        what `fit.log_target: auto` has chosen
"""

from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from stages.model.scaling import has_long_tail
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import PREPARED, TARGET, write_json, write_whole
from stages.shared.params import Cluster, Data, Fit, read_section
from stages.table.contract import choose_columns, read_table
from stages.table.dictionary import read_dictionary
from stages.table.encoder import Encoder
from stages.table.inference import complete_dictionary
from stages.table.splitting import find_apart, split_rows


def make_tables(
    parts: dict[str, pd.DataFrame], encoder: Encoder, apart: pd.Series | None = None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables of training and test rows by name, one after the other, so that memory holds one at a time.

    rows: what a user of the model hands in. X: float32 (n_rows, n_features). y: the target in its unit, and of the
    training rows what keeps them apart, for cross-validation.
    """
    dictionary, names = encoder.dictionary, encoder.get_feature_names_out()
    for part, rows in parts.items():
        y = rows[[dictionary["target"]]].set_axis(["target"], axis=1)
        yield f"y_{part}", y if apart is None or part == "test" else y.assign(**{str(apart.name): apart.to_numpy()})
        yield f"rows_{part}", rows[list(encoder.columns_)]
        X = encoder.transform_training(rows) if part == "train" else encoder.transform(rows)
        yield f"X_{part}", pd.DataFrame(X, index=rows.index, columns=names)


def choose_log(folder: Path, target: np.ndarray) -> None:
    """Decide for `log_target: auto` by the target of the training rows, (n_rows,), and write it beside the tables."""
    chosen = has_long_tail(target)
    write_json(folder / TARGET.name, {"log_target": chosen})
    print(f"prepare: fit.log_target: auto chooses {chosen}")


def main() -> None:
    make_parser("prepare", __doc__).parse_args()
    data, fit, cluster = read_section(Data), read_section(Fit), read_section(Cluster)
    if cluster.address:
        from stages.cluster.preparing import prepare_parts

        prepare_parts(cluster.address, data, fit, choose_log)
        return
    dictionary = complete_dictionary(data.path, read_dictionary(data.dictionary, data.target))
    beside = [] if data.split == "random" else [*data.split.values()]
    table = read_table(data.path, dictionary, fit.log_target is True, beside)
    apart = find_apart(table, data, dictionary)
    if beside:  # nothing is learned from a column that only tells rows apart
        table = table[[name for name in choose_columns(dictionary) if name in table]]
    first, last = split_rows(len(table), data, apart)
    train, test = table.iloc[first], table.iloc[last]
    apart = None if apart is None else apart.iloc[first]
    del table  # a large one would be in memory twice
    encoder = Encoder(dictionary).fit(train)
    if not encoder.feature_names_:
        raise InputError(f"{data.path}: nothing to learn from: no column is a feature that differs between rows")
    with write_whole(PREPARED) as folder:
        folder.mkdir()
        for name, frame in make_tables({"train": train, "test": test}, encoder, apart):
            frame.to_parquet(folder / f"{name}.parquet")
        if fit.log_target == "auto":
            choose_log(folder, train[dictionary["target"]].to_numpy())
        joblib.dump(encoder, folder / "encoder.joblib")
    print(
        f"prepare: {len(train) + len(test)} rows of {data.path} → {len(train)} to train on, {len(test)} to test on, "
        f"{len(encoder.get_feature_names_out())} features"
    )


if __name__ == "__main__":
    run_command(main)
