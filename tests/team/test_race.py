"""Clones that share nothing but a server, at the same time."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest

from benchmarks.race import race
from stages.registry import lease
from stages.shared.cli import InputError
from tests.conftest import ROOT
from tests.server import PATIENCE, wait_until

pytestmark = pytest.mark.slow


def test_clones_register_roll_back_and_are_killed_at_once_and_one_version_serves(origin, server):
    assert race(server.address, 3, origin) >= 8


@contextmanager
def answering_rubbish(port):
    """As a proxy before a server that restarts; set once it was asked."""
    asked = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            asked.set()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        do_GET = do_POST = answer  # noqa: N815 - as the standard library names them

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def list_tickets():
    tags = mlflow.MlflowClient().get_registered_model("HousePricesPredictor").tags
    return {key: value for key, value in tags.items() if key.startswith(lease.LEASE)}


def test_a_ticket_outlives_a_proxy_and_who_was_taken_for_dead_changes_nothing_more(server, tmp_path, monkeypatch):
    for name in ("params.yaml", "data/dictionary.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setattr(lease, "SECONDS", 3)  # so that it is renewed each second
    mlflow.set_tracking_uri(server.address)
    with lease.hold_registry() as require_turn:
        ((ticket, first),) = list_tickets().items()
        require_turn()
        server.stop()
        with answering_rubbish(server.port) as asked:
            assert asked.wait(PATIENCE)
        server.start()
        wait_until(lambda: list_tickets()[ticket] != first, server.process)
        lease.delete_ticket(ticket)
        with pytest.raises(InputError, match="did not hear of this process"):
            require_turn()
        looks = server.log.read_text().count("registered-models/get")
        wait_until(lambda: server.log.read_text().count("registered-models/get") >= looks + 2, server.process)
        assert not list_tickets(), "it is put back"


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
