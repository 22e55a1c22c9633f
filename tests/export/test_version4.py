"""What version 4 of the model file added: a preprocessing that knows space; Python's reader and the runtime's."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_program import network
from native_library import ensure_library
from test_runtime_errors import REMEDY, Wrong, open_bytes, section_start, spoiled

from unetq.errors import ModelFileError, UnsupportedError
from unetq.export.modelfile import encode, load, read, save, version_of
from unetq.export.preprocessing import in_words
from unetq.export.program import ModelMeta, Preprocessing, Program
from unetq.inspect import describe, inspect
from unetq.runtime import Runtime

FLAT, NEIGHBOURS, VOLUME = network(), network(channels=3), network(rank=3, multiple=4)
FIXED = network(fixed=(1, 32, 40))
RULES = {
    "orientation": (FLAT, Preprocessing("zscore", orientation="RAS")),
    "spacing": (FLAT, Preprocessing("zscore", spacing=(0.5, 0.25))),
    "one spacing": (VOLUME, Preprocessing("none", spacing=(0.0, 0.0, 1000.0))),
    "window": (FLAT, Preprocessing("window", -1.5, 9.25, window=(16, 65536))),
    "window of the fixed size": (FIXED, Preprocessing("zscore", window=(32, 40))),
    "window of a volume": (VOLUME, Preprocessing("zscore", window=(4, 8, 16), overlap=0.9)),
    "overlap": (FLAT, Preprocessing("zscore", overlap=0.0)),
    "volume": (FLAT, Preprocessing("zscore", over="volume")),
    "context": (NEIGHBOURS, Preprocessing("zscore", context=1)),
    "all": (NEIGHBOURS, Preprocessing("zscore", 0.0, 1.0, "volume", "PIL", (0.7, 0.0), 1, (24, 8), 0.5)),
}


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


@pytest.mark.parametrize("name", RULES)
def test_it_comes_back_from_both_readers(tmp_path: Path, name: str) -> None:
    program, rule = RULES[name]
    meta = ModelMeta(preprocessing=rule)
    save(program, tmp_path / "m.uqm", meta)
    data = (tmp_path / "m.uqm").read_bytes()
    assert data[8] == version_of(program, meta) == 4
    assert load(tmp_path / "m.uqm")[1].preprocessing == rule
    with Runtime(tmp_path / "m.uqm") as runtime:
        assert runtime.meta.preprocessing == rule


def test_older_versions_are_written_as_they_were(tmp_path: Path) -> None:
    """Bytes 72 to 127 of the program record stay 0 where there is nothing new to say, and mean the defaults."""
    for rule in (Preprocessing("zscore"), Preprocessing("window", -1, 2), Preprocessing("none", spacing=(0.0, 0.0))):
        data = encode(FLAT, ModelMeta(preprocessing=rule))
        at = section_start(data, "program")
        assert data[8] == version_of(FLAT, ModelMeta(preprocessing=rule)) == 1 and not any(data[at + 72 : at + 128])
        (tmp_path / "m.uqm").write_bytes(data)
        plain = replace(rule, spacing=())
        assert read(data)[1].preprocessing == plain
        with Runtime(tmp_path / "m.uqm") as runtime:
            assert runtime.meta.preprocessing == plain


def test_where_the_fields_lie() -> None:
    data = encode(*((NEIGHBOURS, ModelMeta(preprocessing=RULES["all"][1]))))
    found = struct.unpack_from("<4sI3d3IId", data, section_start(data, "program") + 72)
    assert found == (b"PIL\0", 1, 0.0, 0.7, 0.0, 0, 24, 8, 1, 0.5)


REFUSED: dict[str, tuple[Program, dict[str, object], str]] = {
    "orientation of two letters": (FLAT, {"orientation": "RA"}, "one letter of"),
    "orientation of one axis": (FLAT, {"orientation": "RLS"}, "one letter of"),
    "small letters": (FLAT, {"orientation": "ras"}, "one letter of"),
    "over the case": (FLAT, {"over": "case"}, "over = 'case'"),
    "spacing of three": (FLAT, {"spacing": (1.0, 1.0, 1.0)}, "one for each of the 2 axes"),
    "negative spacing": (FLAT, {"spacing": (1.0, -1.0)}, "spacing in width = -1.0"),
    "endless spacing": (FLAT, {"spacing": (np.inf, 1.0)}, "spacing in height = inf"),
    "a metre and more": (VOLUME, {"spacing": (1000.5, 1.0, 1.0)}, "spacing in depth = 1000.5"),
    "window of three": (FLAT, {"window": (8, 8, 8)}, "one for each of the 2 axes"),
    "window of nothing": (FLAT, {"window": (8, 0)}, "window in width = 0"),
    "window off the stride": (FLAT, {"window": (8, 12)}, "window in width = 12: a multiple of the stride 8"),
    "endless window": (FLAT, {"window": (8, 65544)}, "window in width = 65544"),
    "window off the fixed size": (FIXED, {"window": (32, 32)}, "takes exactly"),
    "overlap of all": (FLAT, {"overlap": 0.95}, "overlap = 0.95"),
    "negative overlap": (FLAT, {"overlap": -0.1}, "overlap = -0.1"),
    "NaN": (FLAT, {"overlap": np.nan}, "overlap = nan"),
    "context of a volume": (VOLUME, {"context": 1}, "for 2-D networks"),
    "negative context": (NEIGHBOURS, {"context": -1}, "0 or more"),
    "context of one channel": (FLAT, {"context": 1}, "1 input channels are no multiple of 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_written(name: str) -> None:
    program, changes, told = REFUSED[name]
    rule = replace(Preprocessing("zscore"), **changes)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=told) as error:
        encode(program, ModelMeta(preprocessing=rule))
    assert str(error.value).endswith(".")


ALL = encode(NEIGHBOURS, ModelMeta(preprocessing=RULES["all"][1]))
SOLID = encode(VOLUME, ModelMeta(preprocessing=RULES["window of a volume"][1]))
TIED = encode(FIXED, ModelMeta(preprocessing=RULES["window of the fixed size"][1]))
OLD = encode(FLAT, ModelMeta())


def wrong(field: str, value: float, told: str, entry: int = 0) -> Wrong:
    return Wrong("program", 0, field, value, told, entry=entry)


WRONG: list[tuple[bytes, Wrong]] = [
    (ALL, Wrong("header", 0, "version", 3, "orientation, spacing, context and windows in version 3 of the format")),
    (ALL, Wrong("header", 0, "version", 1, "orientation, spacing, context and windows in version 1 of the format")),
    (OLD, wrong("context", 1, "in version 1 of the format; they need 4")),
    (OLD, wrong("overlap", 0.25, "in version 1 of the format; they need 4")),
    (OLD, wrong("overlap", -0.0, "in version 1 of the format; they need 4")),
    (ALL, wrong("over", 2, "statistics over 2")),
    (ALL, wrong("context", 2, "context 2: 3 input channels")),
    (ALL, wrong("context", 0xFFFFFFFF, "context 4294967295: 3 input channels")),
    (SOLID, wrong("context", 1, "neighbour slices are for 2-D")),
    (ALL, wrong("overlap", 0.91, "overlap 0.91")),
    (ALL, wrong("overlap", np.nan, "overlap")),
    (ALL, wrong("overlap", -0.01, "overlap -0.01")),
    (ALL, wrong("spacing", 1.0, "spacing 1 of axis 0", 0)),
    (ALL, wrong("spacing", np.nan, "of axis 1", 1)),
    (ALL, wrong("spacing", -1.0, "spacing -1 of axis 2", 2)),
    (ALL, wrong("spacing", 1000.1, "spacing 1000.1 of axis 2", 2)),
    (SOLID, wrong("spacing", np.inf, "of axis 0", 0)),
    (ALL, wrong("window", 8, "window 8 of axis 0", 0)),
    (ALL, wrong("window", 0, "window 0 of axis 1", 1)),
    (ALL, wrong("window", 12, "window 12 of axis 2", 2)),
    (ALL, wrong("window", 65544, "window 65544 of axis 2", 2)),
    (SOLID, wrong("window", 0, "window 0 of axis 0", 0)),
    (TIED, wrong("window", 40, "window 40 of axis 1", 1)),
    (TIED, wrong("window", 0, "window 0 of axis 2", 2)),
]


@pytest.mark.parametrize(("data", "changed"), WRONG, ids=lambda value: str(value) if isinstance(value, Wrong) else "")
def test_a_field_that_both_readers_refuse(data: bytes, changed: Wrong) -> None:
    bad = spoiled(data, changed)
    status, detail = open_bytes(bad)
    assert status == changed.status and changed.told in detail and REMEDY.search(detail), detail
    with pytest.raises(ModelFileError):
        read(bad, "spoiled")


@pytest.mark.parametrize(
    "letters", [b"RLS\0", b"RASA", b"R\0S\0", b"RA\0\0", b"\0\0\0S", b"ras\0", b"R\xc1S\0", b"\0RAS"]
)
def test_letters_that_both_readers_refuse(letters: bytes) -> None:
    data = bytearray(ALL)
    at = section_start(ALL, "program") + 72
    data[at : at + 4] = letters
    bad = spoiled(bytes(data), wrong("context", 1, ""))  # the same context: for the checksum
    status, detail = open_bytes(bad)
    assert status != 0 and "orientation" in detail, detail
    with pytest.raises(ModelFileError):
        read(bad, "spoiled")


def test_it_is_shown(tmp_path: Path) -> None:
    program, rule = RULES["all"]
    save(program, tmp_path / "m.uqm", ModelMeta(preprocessing=rule))
    found = inspect(tmp_path / "m.uqm")
    assert found["size"] == [24, 8] and found["format_version"] == 4 and found["preprocessing"]["window"] == [24, 8]
    for text in (describe(found), in_words(rule)):
        for words in (
            "turned to PIL",
            "0.7 x as stored mm",
            "zscore over the volume",
            "1 slice(s) on each side",
            "windows of 24 x 8",
        ):
            assert words in text, (words, text)
    save(FLAT, tmp_path / "m.uqm", ModelMeta(preprocessing=Preprocessing("zscore")))
    assert "intensities: zscore\n" in describe(inspect(tmp_path / "m.uqm", (24, 16)))
