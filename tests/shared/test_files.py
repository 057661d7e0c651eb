"""Files as DVC knows them, and written whole or not at all."""

import subprocess
from pathlib import Path

import pytest
import yaml

from stages.shared.files import hash_folder, write_whole


def test_a_folder_has_the_md5_that_dvc_gives_it(tmp_path):
    for name in ("MLmodel", "a/b", "a-c", "a.d", "code/É"):
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for command in (["dvc", "init", "--no-scm"], ["dvc", "add", "out"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (out,) = yaml.safe_load((tmp_path / "out.dvc").read_text())["outs"]
    assert hash_folder(tmp_path / "out") == out["md5"]
    (tmp_path / "out/a/note").write_text("later")
    assert hash_folder(tmp_path / "out", but=["note"]) == out["md5"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_earlier_one(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()

    def refuse(self, target):
        raise PermissionError(13, "in use", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError), write_whole(folder) as part:
        part.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in folder.iterdir()] == ["old"]
