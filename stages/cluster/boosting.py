"""XGBoost and LightGBM fitted by all workers together, each on the parts that are its share.

LightGBM's own support for Dask needs every part in memory. XGBoost is given them one by one and keeps a byte for each
value, so a table may be larger than the workers' memory; and as a part always falls to the same worker, it repeats to
the bit on as many workers.
"""

import logging
import threading
from functools import partial
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import xgboost
from dask import array as da
from dask import delayed
from distributed import Client, as_completed, get_worker
from lightgbm.basic import LightGBMError
from lightgbm.dask import DaskLGBMRegressor
from sklearn.base import BaseEstimator, clone
from xgboost.collective import CommunicatorContext, get_rank
from xgboost.tracker import RabitTracker

from stages.cluster.connection import explain_loss
from stages.cluster.pieces import Piece, draw_folds, read_piece

MINUTES_TO_MEET = 1  # for workers to find each other, before a fit is given up

logging.getLogger("lightgbm").setLevel(logging.ERROR)  # it tells of ports, and that n_jobs is the workers'
lightgbm.register_logger(logging.getLogger("lightgbm"))


class Share(NamedTuple):
    """The rows of a part that are in some folds, and its size: how many rows are in each of all folds, and features."""

    piece: Piece
    counts: np.ndarray
    folds: list[int]
    n_features: int

    def count_rows(self) -> int:
        return int(self.counts[self.folds].sum())


def read_share(share: Share) -> tuple[np.ndarray, np.ndarray]:
    """Features (n_rows, n_features) and the target as it is fitted, (n_rows,)."""
    X, z, ids = read_piece(share.piece)
    kept = np.isin(draw_folds(ids, share.piece.seed, len(share.counts)), share.folds)
    return X[kept], z[kept]


class Blocks(xgboost.DataIter):
    """What XGBoost reads its rows from, share by share, several times over."""

    def __init__(self, shares: list[Share]) -> None:
        super().__init__(release_data=True)
        self.shares = shares
        self.reset()

    def reset(self) -> None:
        self.left = iter(self.shares)

    def next(self, input_data: Any) -> bool:
        share = next(self.left, None)
        if share is not None:
            X, z = read_share(share)
            input_data(data=X, label=z)
        return share is not None


def start_tracker(n_workers: int, host: str) -> dict[str, Any]:
    """Let as many workers find each other through the host on which this runs; returns what they need for it."""
    tracker = RabitTracker(n_workers=n_workers, host_ip=host, sortby="task", timeout=60 * MINUTES_TO_MEET)
    tracker.start()
    threading.Thread(target=tracker.wait_for, daemon=True).start()
    return dict(tracker.worker_args())


def boost_shares(shares: list[Share], rank: int, regressor: BaseEstimator, meeting: dict[str, Any]) -> bytes:
    """What one worker does of a fit by all; the first of them returns the booster."""
    threads = get_worker().state.nthreads
    settings = regressor.get_xgb_params() | {"n_jobs": threads}
    with CommunicatorContext(**meeting, dmlc_task_id=f"{rank:05}"), xgboost.config_context(nthread=threads):
        rows = xgboost.QuantileDMatrix(Blocks(shares), max_bin=regressor.max_bin, nthread=threads)
        booster = xgboost.train(settings, rows, regressor.get_num_boosting_rounds())
        return bytes(booster.save_raw()) if get_rank() == 0 else b""


def fit_xgboost(client: Client, regressor: BaseEstimator, shares: list[Share]) -> BaseEstimator:
    """Raises LossError if a worker is lost."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    addresses = sorted(workers, key=lambda address: str(workers[address]["name"]))[: len(shares)]
    first, host = addresses[0], workers[addresses[0]]["host"]
    with explain_loss("train@xgboost", xgboost.core.XGBoostError):
        meeting = client.run(start_tracker, len(addresses), host, workers=[first])[first]
        futures = [
            client.submit(
                partial(boost_shares, regressor=regressor, meeting=meeting),
                shares[rank :: len(addresses)],
                rank,
                workers=[address],
                pure=False,
            )
            for rank, address in enumerate(addresses)
        ]
        try:
            raw = max((future.result() for future in as_completed(futures)), key=len)
        finally:
            client.cancel(futures)  # what waits for a worker that is lost
    fitted = clone(regressor)
    fitted.load_model(bytearray(raw))
    return fitted


def fit_lightgbm(client: Client, regressor: BaseEstimator, shares: list[Share]) -> BaseEstimator:
    """Raises LossError if a worker is lost."""
    blocks, targets = [], []
    for share in shares:
        block, rows = delayed(read_share, nout=2)(share), share.count_rows()
        blocks.append(da.from_delayed(block[0], (rows, share.n_features), np.float32))
        targets.append(da.from_delayed(block[1], (rows,), float))
    X, z = client.persist([da.concatenate(blocks), da.concatenate(targets)])
    distributed = DaskLGBMRegressor(client=client, **regressor.get_params() | {"time_out": MINUTES_TO_MEET})
    with explain_loss("train@lightgbm", LightGBMError):
        return distributed.fit(X, z).to_local()


BOOSTERS = {"xgboost": fit_xgboost, "lightgbm": fit_lightgbm}
