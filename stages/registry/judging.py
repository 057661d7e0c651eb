"""What a logged model predicts for the current test rows, beside what DVC's file does.

register has this done in a process aside, which has imported what models are made of.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.model.results import list_files, load_object, read_file
from stages.shared.cli import InputError
from stages.shared.files import DAMAGED
from stages.tracking.connection import first_line
from stages.tracking.stored import load_pipeline

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def predict_logged(folder: Path) -> np.ndarray | str:
    """The predictions of a logged model, in its folder, for the test rows, (n_rows,), or why they can't be had."""
    pipeline = open_folder(folder)
    if isinstance(pipeline, str):
        return pipeline
    try:
        return predict_rows(pipeline)
    except DAMAGED as error:
        return first_line(error)


def open_folder(folder: Path) -> "Pipeline | str":
    """The pipeline in the folder of a logged model, or why it can't be used."""
    try:
        return load_pipeline(folder)
    except InputError as error:
        return first_line(error)


def predict_rows(pipeline: "Pipeline") -> np.ndarray:
    """The predictions for the test rows, (n_rows,), file by file."""
    return np.concatenate([pipeline.predict(read_file(file)) for file in list_files("rows_test")])


def compare(folder: Path, path: Path) -> str:
    """Why a logged model is not what DVC has in a file; nothing if it predicts the same for the test rows."""
    predicted = predict_logged(folder)
    if isinstance(predicted, str):
        return predicted
    same = np.allclose(predicted, predict_rows(load_object(path)), rtol=1e-9, atol=0)
    return "" if same else "it predicts other values than DVC's file"
