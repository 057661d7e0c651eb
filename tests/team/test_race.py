"""Clones that share nothing but a server, at the same time."""

import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.race import race
from tests.conftest import ROOT
from tests.server import PATIENCE

pytestmark = pytest.mark.slow


def test_clones_register_roll_back_and_are_killed_at_once_and_one_version_serves(origin, server):
    assert race(server.address, 3, origin) >= 8


def test_four_clones_that_share_an_empty_server_all_find_it(server, tmp_path):
    code = "from stages.registry import lease\nfrom stages.tracking import connection\nprint(connection.connect())\n"
    code += "with lease.hold_registry(): print('held')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": server.address}
    pipe, clones = subprocess.PIPE, []
    for number in range(4):
        root = tmp_path / f"clone{number}"
        for name in ("params.yaml", "data/dictionary.yaml"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        own = {**environment, "DVC_ROOT": str(root)}
        clones.append(
            subprocess.Popen([sys.executable, "-c", code], cwd=root, env=own, stdout=pipe, stderr=pipe, text=True)
        )
    said = [clone.communicate(timeout=PATIENCE) for clone in clones]
    assert [clone.returncode for clone in clones] == [0] * 4, said
    assert {out.split()[1] for out, _ in said} == {"held"}
    assert len({out for out, _ in said}) == 1
