"""params.yaml: what is refused before any work."""

from pathlib import Path

import pytest
import yaml

from stages.shared.cli import InputError
from stages.shared.params import Cluster, Data, Fit, Register, read_mapping, read_section


@pytest.fixture
def write(tmp_path, params, monkeypatch):
    """Writes params.yaml with some values changed, in a folder where this process then is."""
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        changed = {k: {**params[k], **v} if isinstance(v, dict) else v for k, v in changes.items()}
        Path("params.yaml").write_text(yaml.safe_dump({**params, **changed}))

    return write


@pytest.mark.parametrize("schema", [Cluster, Data, Fit, Register])
def test_committed_params_are_good(schema):
    assert read_section(schema)


@pytest.mark.parametrize(
    ("schema", "changes", "words"),
    [
        (Data, {"test_size": 0}, r"data\.test_size = 0: .*greater than 0"),
        (Data, {"test_size": 1.0}, r"data\.test_size = 1\.0: .*less than 1"),
        (Data, {"test_size": "big"}, r"data\.test_size = 'big': .*number"),
        (Data, {"split": {"time": "a", "group": "b"}}, r"data\.split = .*must be random, {time: <column>} or {group"),
        (Data, {"sede": 1}, r"data\.sede: unknown key; known: path, dictionary"),
        (Fit, {"cv_folds": 1}, r"fit\.cv_folds = 1: .*0 for none, or at least 2"),
        (Fit, {"threads": 0}, r"fit\.threads = 0"),
        (Fit, {"log_target": "yes"}, r"fit\.log_target = 'yes'"),
        (Cluster, {"address": "scheduler:8786"}, r"cluster\.address = 'scheduler:8786'"),
        (Cluster, {"address": "tcp://a/b:8786"}, r"cluster\.address = 'tcp://a/b:8786'"),
        (Register, {"promote": "maybe"}, r"register\.promote = 'maybe': .*'better', 'always', 'never' or 'ci'"),
        (Register, {"min_gain": -1}, r"register\.min_gain = -1"),
    ],
)
def test_bad_value_names_key_value_and_what_is_allowed(write, schema, changes, words):
    write(**{schema.__name__.lower(): changes})
    with pytest.raises(InputError, match=words):
        read_section(schema)


@pytest.mark.parametrize("address", [None, "local", "tcp://scheduler-host:8786", "tls://[::1]:8786"])
def test_addresses_of_clusters_are_taken(write, address):
    write(cluster={"address": address})
    assert read_section(Cluster).address == address


def test_every_fault_is_listed(write):
    write(data={"test_size": 2, "seed": -1})
    with pytest.raises(InputError, match=r"test_size.*seed"):
        read_section(Data)


def test_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"params\.yaml: no such file"):
        read_section(Data)


def test_section_without_a_colon_and_one_that_is_missing_are_told_apart(write):
    write(data="seed 42")
    with pytest.raises(InputError, match="section `data`: expected `key: value` lines, found 'seed 42'"):
        read_section(Data)
    with pytest.raises(InputError, match="section `xgbost` is missing"):
        read_mapping("xgbost")
