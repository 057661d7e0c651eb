"""Predictions for a folder or glob of parts, each where it is read; the output is a folder of as many parts."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stages.cluster.connection import connect, map_parts
from stages.cluster.preparing import bring_here, list_parts
from stages.shared.cli import InputError
from stages.shared.files import write_whole
from stages.shared.params import Cluster, read_section

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

PredictFile = Callable[..., str]  # of pipeline, input, output and skip_bad; returns what was done


def predict_part(part: str, pipeline: "Pipeline", predict_file: PredictFile, folder: Path, skip_bad: bool) -> str:
    """Write the predictions for a part under its name, and return the faults that are in their way."""
    output = folder / f"{Path(part).name.partition('.')[0]}.parquet"
    try:
        predict_file(pipeline, bring_here(part), str(output), skip_bad=skip_bad)
    except InputError as error:
        return str(error)
    return ""


def predict_parts(predict_file: PredictFile, open_model: Callable[..., "Pipeline"], args: Namespace) -> str:
    """Write a folder of predictions whole or not at all, and return what was done.

    Raises InputError with the faults of all parts, or if params.yaml names no cluster.
    """
    address = read_section(Cluster).address
    if not address:
        raise InputError(f"{args.input}: parts are predicted on a cluster; set cluster.address in params.yaml")
    parts = list_parts(args.input)
    if Path(args.output).suffix or Path(args.output).exists():
        raise InputError(f"--output {args.output}: of parts it must be a new folder, with no suffix")
    pipeline = open_model(args.model, trust=args.trust)
    with connect(address) as client, write_whole(Path(args.output).resolve()) as folder:
        folder.mkdir()
        shared = {"pipeline": pipeline, "predict_file": predict_file, "folder": folder, "skip_bad": args.skip_bad}
        said = map_parts(client, predict_part, parts, "predict", **shared)
        faults = [line for part in said if part for line in part.splitlines()]
        if faults:
            raise InputError(f"{args.input}: faults in some parts, nothing written", faults)
    return f"predict: {len(parts)} part(s) of {args.input} → {args.output}"
