"""compose.yaml says the same as team/stack.sh, .env.example and the lock. (Docker itself is not started.)"""

import re

import yaml

from tests.conftest import ROOT

COMPOSE = (ROOT / "compose.yaml").read_text()
STACK = (ROOT / "team/stack.sh").read_text().replace("\\\n", " ")
SERVICES = yaml.safe_load(COMPOSE)["services"]
ELSEWHERE = {"host", "port", "dir", "ip", "ip.bind", "s3.port"}  # what differs between a container and a shared machine


def read_options(command):
    """{option: value} of a command line, but for places and ports."""
    found = re.findall(r"\s--?([\w.-]+)[= ]([^\s-]\S*)", command)
    return {key: value for key, value in found if key not in ELSEWHERE and not key.endswith((".port", ".grpc"))}


def test_every_variable_stands_in_the_example_and_no_secret_in_the_file():
    example = dict(line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line[0] != "#")
    assert set(re.findall(r"\$\{(\w+)", COMPOSE)) - {"TEAM_S3_PORT"} == set(example)
    for service in SERVICES.values():
        for key, value in service["environment"].items():
            if key in example:
                assert value.startswith("${"), key


def test_commands_are_those_of_the_native_parts():
    mini = re.search(r"weed (mini .*)", STACK).group(1)
    server = re.search(r"mlflow (server .*)", STACK).group(1).replace('"$TEAM_ALLOWED_HOSTS"', "HOSTS")
    wanted = re.sub(r"\$\{TEAM_ALLOWED_HOSTS[^}]*\}", "HOSTS", SERVICES["mlflow"]["command"])
    assert read_options(server) == read_options(wanted) != {}
    given, asked = read_options(mini), read_options(" " + SERVICES["store"]["command"])
    assert {key: value for key, value in given.items() if not key.startswith("s3.port")} == asked != {}


def test_auth_and_addresses_are_those_of_the_native_parts():
    auth = yaml.safe_load(COMPOSE)["configs"]["auth"]["content"]
    for line in auth.splitlines():
        if not line.startswith("database_uri"):
            assert f"'{line}'" in STACK
    assert COMPOSE.count("postgresql+psycopg2://") == 2
    assert "postgresql+psycopg2://" in STACK


def test_every_port_is_on_loopback_unless_asked_otherwise_and_every_part_has_a_healthcheck():
    for service in SERVICES.values():
        assert all(port.startswith("${TEAM_HOST:-127.0.0.1}:") for port in service.get("ports", []))
        assert service["healthcheck"]["test"]
    assert SERVICES["mlflow"]["depends_on"].keys() == {"database", "store"}


def test_all_locks_have_the_same_version_of_what_is_in_all():
    found = [
        dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "team.lock", "cluster.lock")
    ]
    first, *others = found
    assert "mlflow" in first
    assert [other | first for other in others] == others


def test_versions_are_those_of_the_lock():
    lock = (ROOT / "team.lock").read_text()
    build = SERVICES["mlflow"]["build"]["dockerfile_inline"]
    for package, version in re.findall(r"([\w-]+)(?:\[auth\])?==([\d.]+)", build):
        assert f"\n{package}=={version} " in lock
    assert f"\nseaweedfs-bin=={SERVICES['store']['image'].rpartition(':')[2]} " in lock
