"""Outputs are whole or absent, and nothing that existed is lost."""

import stat
from pathlib import Path

import pytest

from unetq.errors import OutputError
from unetq.files import atomic_path, write_bytes, write_json


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, full_disk) -> None:
    target = tmp_path / "model.uqm"
    write_bytes(target, b"old")
    with full_disk(), pytest.raises(OutputError, match="nothing was changed"):
        write_bytes(target, b"x" * 4096)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.uqm"]


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "mask.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / "nowhere" / "a.bin", b"")


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) & 0o600 == 0o600
    plain = tmp_path / "plain"
    plain.write_text("")
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
