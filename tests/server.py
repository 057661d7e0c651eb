"""A real `mlflow server` on a free port of this machine, which a test can stop and start again."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import requests


class Server:
    """Its database and its artifacts lie in a folder."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--serve-artifacts"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()

    def answers(self):
        try:
            return requests.get(f"{self.address}/health", timeout=2).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def watch(self, act):
        """The requests that it gets while something is done: (method, path)."""
        before = len(self.log.read_text())
        act()
        mark = f"mark={before}"
        requests.get(f"{self.address}/health?{mark}", timeout=60)
        deadline = time.monotonic() + 60
        while mark not in (logged := self.log.read_text()[before:]):  # its log follows its answers
            assert time.monotonic() < deadline, logged
        return re.findall(r'"([A-Z]+) (/[^ ?]*)', logged.partition(mark)[0])[:-1]

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
