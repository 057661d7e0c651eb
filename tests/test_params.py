"""params.yaml: what is refused before any work."""

import pytest
import yaml

from stages.edge import InputError
from stages.params import Data, Fit, Register, read_section


@pytest.fixture
def write(tmp_path, params):
    def write(**changes):
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump({**params, **{k: {**params[k], **v} for k, v in changes.items()}}))
        return str(path)

    return write


@pytest.mark.parametrize("schema", [Data, Fit, Register])
def test_committed_params_are_good(schema):
    assert read_section(schema)


@pytest.mark.parametrize(
    ("schema", "changes", "words"),
    [
        (Data, {"test_size": 0}, r"data\.test_size = 0: .*greater than 0"),
        (Data, {"test_size": 1.0}, r"data\.test_size = 1\.0: .*less than 1"),
        (Data, {"test_size": "big"}, r"data\.test_size = 'big': .*number"),
        (Data, {"sede": 1}, r"data\.sede: unknown key; known: path, dictionary"),
        (Fit, {"cv_folds": 1}, r"fit\.cv_folds = 1: .*0 for none, or at least 2"),
        (Fit, {"threads": 0}, r"fit\.threads = 0"),
        (Fit, {"log_target": "yes"}, r"fit\.log_target = 'yes'"),
        (Register, {"promote": "maybe"}, r"register\.promote = 'maybe': .*'better', 'always' or 'never'"),
        (Register, {"min_gain": -1}, r"register\.min_gain = -1"),
    ],
)
def test_bad_value_names_key_value_and_what_is_allowed(write, schema, changes, words):
    with pytest.raises(InputError, match=words):
        read_section(schema, write(**{schema.__name__.lower(): changes}))


def test_every_fault_is_listed(write):
    with pytest.raises(InputError, match=r"test_size.*seed"):
        read_section(Data, write(data={"test_size": 2, "seed": -1}))


def test_missing_file_is_named():
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        read_section(Data, "nowhere.yaml")
