"""Run a notebook as a person would, in a project that has run."""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path, root: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, run in the root of a project. Raises CellExecutionError if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(root)}}, record_timing=False
    )
    client.execute(env={key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))})
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook
