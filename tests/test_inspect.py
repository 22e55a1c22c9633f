"""What ``inspect`` tells about a model file."""

import json
from pathlib import Path

import pytest
from native_library import ensure_library
from paper_program import paper_program
from random_programs import random_integer_program

from unetq.errors import DataError, ModelFileError
from unetq.export.modelfile import save
from unetq.export.program import ModelMeta
from unetq.inspect import describe, inspect


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    ensure_library(folder)
    save(paper_program(4, 6), folder / "em.uqm", ModelMeta("em", ("membrane", "cell"), (0, 255)))
    return folder / "em.uqm"


def test_layers_bits_bytes_and_memory(model: Path) -> None:
    found = inspect(model)
    assert json.loads(json.dumps(found)) == found
    assert found["size"] == [512, 512] and found["file_bytes"] == model.stat().st_size
    assert found["weights"] == 4_830_336 and round(found["macs"] / 1e9) == 150
    convs = [layer for layer in found["layers"] if layer["kind"] == "conv"]
    assert [c["weight_bits"] for c in convs] == [8] + [4] * 13 + [8]
    assert convs[1]["output_size"] == [512, 512] and convs[1]["output_codes"] == "u6"
    assert found["memory"]["arena_bytes"] < 40_000_000
    assert inspect(model, (64, 64))["memory"]["arena_bytes"] < found["memory"]["arena_bytes"] / 10


def test_text(model: Path) -> None:
    text = describe(inspect(model, (64, 128)))
    assert "membrane = 0, cell = 255" in text and "at 64x128" in text and "conv21" in text and "arena" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_every_kind_of_program_can_be_described(tmp_path: Path) -> None:
    for seed in range(30):
        program = random_integer_program(seed)
        save(program, tmp_path / "m.uqm")
        size = program.fixed_size or (8, 8, 8)
        try:
            assert describe(inspect(tmp_path / "m.uqm", size[3 - program.spatial_rank :]))
        except DataError as error:  # some are made for one small size only
            assert "size" in str(error)


def test_refusals(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.uqm"):
        inspect(tmp_path / "none.uqm")
    with pytest.raises(DataError, match="multiple"):
        inspect(model, (60, 64))
    with pytest.raises(DataError, match="axes"):
        inspect(model, (64, 64, 64))


def test_without_a_library(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNETQ_LIBRARY", "/nowhere/libunetq.so")
    found = inspect(model)
    assert "missing" in found["memory"]["unknown"] and "unknown" in describe(found)
