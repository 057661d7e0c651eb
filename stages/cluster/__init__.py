"""The same pipeline on a Dask cluster: the only package that imports Dask, and only if `cluster.address` is set."""

from importlib.util import find_spec

from stages.shared.cli import InputError

if find_spec("distributed") is None:
    raise InputError("params.yaml: cluster.address needs Dask, which is not installed here: make .venv/cluster")
