"""Predictions for a folder or glob of parts, each where it is read; the output is a folder of as many parts."""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stages.cluster.connection import connect, map_parts
from stages.cluster.preparing import SUFFIXES, bring_here, list_parts
from stages.shared.cli import InputError
from stages.shared.files import write_whole
from stages.shared.params import Cluster, read_section
from stages.table.reading import join_some

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

PredictFile = Callable[..., str]  # of pipeline, input, output and skip_bad; returns what was done


def name_outputs(parts: list[str], source: str) -> list[str]:
    """The file of each part's predictions. Raises InputError if two parts would have the same."""
    names = [f"{cut_suffix(Path(part).name)}.parquet" for part in parts]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        same = [part for part, name in zip(parts, names, strict=True) if name == twice[0]]
        raise InputError(f"{source}: the predictions of {len(same)} parts would be {twice[0]}: {join_some(same)}")
    return names


def cut_suffix(name: str) -> str:
    return name.removesuffix(next(suffix for suffix in SUFFIXES if name.endswith(suffix)))


def predict_part(
    part_and_name: tuple[str, str], pipeline: "Pipeline", predict_file: PredictFile, folder: Path, skip_bad: bool
) -> tuple[str, str]:
    """Write the predictions for a part under a name; the faults that are in their way, and what was done.

    Marks and rejects begin with `_`, which who reads the folder as one table passes over.
    """
    part, name = part_and_name
    try:
        said = predict_file(pipeline, bring_here(part), str(folder / name), skip_bad=skip_bad)
    except InputError as error:
        return str(error), ""
    for side in (folder / f"{cut_suffix(name)}.{kind}.csv" for kind in ("marks", "rejects")):
        if side.exists():
            side.rename(folder / f"_{side.name}")
            said = said.replace(str(side), f"_{side.name}")
    return "", said.partition("\n")[2]


def predict_parts(predict_file: PredictFile, open_model: Callable[..., "Pipeline"], args: Namespace) -> str:
    """Write a folder of predictions whole or not at all, and return what was done.

    Raises InputError with the faults of all parts, or if params.yaml names no cluster.
    """
    address = read_section(Cluster).address
    if not address:
        raise InputError(f"{args.input}: parts are predicted on a cluster; set cluster.address in params.yaml")
    parts = list_parts(args.input)
    named = list(zip(parts, name_outputs(parts, args.input), strict=True))
    if Path(args.output).suffix or Path(args.output).exists():
        raise InputError(f"--output {args.output}: of parts it must be a new folder, with no suffix")
    pipeline = open_model(args.model, trust=args.trust)
    with connect(address) as client, write_whole(Path(args.output).resolve()) as folder:
        folder.mkdir()
        shared = {"pipeline": pipeline, "predict_file": predict_file, "folder": folder, "skip_bad": args.skip_bad}
        done = map_parts(client, predict_part, named, "predict", **shared)
        faults = [line for found, _ in done for line in found.splitlines()]
        if faults:
            raise InputError(f"{args.input}: faults in some parts, nothing written", faults)
    said = [f"predict: {len(parts)} part(s) of {args.input} → {args.output}", *(line for _, line in done if line)]
    return "\n".join(said)
