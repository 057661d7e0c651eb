"""How many requests the steps of a day send to a server: each costs a way there and back."""

import pytest

from tests.conftest import Project
from tests.server import Server

pytestmark = pytest.mark.slow
FILES = "/api/2.0/mlflow-artifacts/"


@pytest.fixture(scope="module")
def place(whole_project, tmp_path_factory):
    """Eight models and their blend, which DVC has, and a server that has nothing yet."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield Project(whole_project.root, server.address), server
    server.stop()


def test_a_rebuild_of_eight_then_nothing_new_then_one_train(place):
    project, server = place
    rebuild = server.watch(lambda: project.stage("register"))
    sent = [path for method, path in rebuild if method == "PUT"]
    assert len(sent) == len(set(sent)), "a file was sent twice"
    assert sum(path.endswith("/MLmodel") for path in sent) == 10
    files = sum(path.startswith(FILES) for _, path in rebuild)
    assert files - len(sent) <= 30  # the champion's come back once, to be compared
    assert len(rebuild) - files <= 150
    again = server.watch(lambda: project.stage("register"))
    assert len(again) <= 20, again
    train = server.watch(lambda: project.stage("train", "linear"))
    assert len(train) <= 20, train
