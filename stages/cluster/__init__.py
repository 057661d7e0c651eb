"""The same pipeline on a Dask cluster: the only package that imports Dask, and only if `cluster.address` is set."""

from importlib.util import find_spec

from stages.shared.cli import InputError

if find_spec("distributed") is None:
    raise InputError(
        "params.yaml: cluster.address, and a table in parts, need Dask, which is not installed: make .venv/cluster"
    )
