"""`unetq download nih` against a stand-in for TCIA's server: whole, checked, gone on with after a cut."""

import hashlib
import io
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nbia_server import Nbia, archive_of, serve
from nih_tree import add_patient, volume
from unetq_datasets._archives import unpack
from unetq_datasets._http import download, read_address
from unetq_datasets._tcia import PARTS, fetch_collection, list_series
from unetq_datasets.download import REGISTRY, RemoteFile, fetch_pancreas

from unetq.data import resolve_dataset
from unetq.errors import DataError, OutputError


@pytest.fixture
def nbia() -> Nbia:
    return Nbia()


@pytest.fixture
def server(nbia: Nbia, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(nbia) as address:
        yield address


def offer(nbia: Nbia, source: Path, *patients: int) -> dict[int, str]:
    """Put patients' series and their labels on the server; their series UIDs by patient."""
    uids = {}
    for number in patients:
        written = add_patient(source, number)
        files = {f"1-{index:03d}.dcm": file.read_bytes() for index, file in enumerate(written.files)}
        nbia.archives[written.series] = archive_of({**files, "LICENSE": b"CC BY 3.0"})
        nbia.listing.append(
            {"SeriesInstanceUID": written.series, "PatientID": f"PANCREAS_{number:04d}", "Modality": "CT",
             "ImageCount": len(files)}
        )  # fmt: skip
        uids[number] = written.series
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for label in sorted((source / "labels").iterdir()):
            zipped.write(label, f"TCIA_pancreas_labels/{label.name}")
    nbia.files["labels.zip"] = out.getvalue()
    return uids


def get(folder: Path, server: str, nbia: Nbia, told: list[str] | None = None) -> list[Path]:
    labels = RemoteFile(f"{server}/labels.zip", hashlib.sha256(nbia.files["labels.zip"]).hexdigest())
    lines = told if told is not None else []
    return fetch_pancreas(folder, lines.append, labels=labels, server=server, wait=0.0)


def test_what_comes_can_be_trained_on(server: str, nbia: Nbia, tmp_path: Path) -> None:
    uids = offer(nbia, tmp_path / "source", 1, 2, 25)
    nbia.listing.append({"SeriesInstanceUID": "1.2", "PatientID": "PANCREAS_0001", "Modality": "SEG"})
    told: list[str] = []
    places = get(tmp_path / "nih", server, nbia, told)
    assert places == [
        tmp_path / "nih" / "labels",
        *(tmp_path / "nih" / f"PANCREAS_000{number}" / uids[number] for number in (1, 2)),
    ]
    assert told == ["the labels are there", "1 of 2: PANCREAS_0001, 4 images", "2 of 2: PANCREAS_0002, 4 images"]
    assert sorted(path.name for path in (tmp_path / "nih").iterdir()) == ["PANCREAS_0001", "PANCREAS_0002", "labels"]
    options = {"validation": [2], "test": []}
    samples = resolve_dataset("nih", options).load(tmp_path / "nih", "train", options)
    np.testing.assert_array_equal(samples[0].image[0], volume(1)[0][3].T[::-1])
    asked = len(nbia.requests)
    assert get(tmp_path / "nih", server, nbia) == places
    assert nbia.requests[asked:] == [("getSeries", "")]  # nothing is fetched twice


def test_a_folder_that_lost_a_file_is_named(server: str, nbia: Nbia, tmp_path: Path) -> None:
    uids = offer(nbia, tmp_path / "source", 1)
    get(tmp_path / "nih", server, nbia)
    (tmp_path / "nih" / "PANCREAS_0001" / uids[1] / "1-002.dcm").unlink()
    with pytest.raises(DataError, match=r"is there and not whole.*move it away"):
        get(tmp_path / "nih", server, nbia)


def test_a_cut_connection_goes_on_where_it_was(server: str, nbia: Nbia, tmp_path: Path) -> None:
    uids = offer(nbia, tmp_path / "source", 1)
    nbia.cuts[uids[1]] = [1000, 500]
    get(tmp_path / "nih", server, nbia)
    ranges = [asked for name, asked in nbia.requests if name == uids[1]]
    assert ranges == ["", "bytes=1000-", "bytes=1500-"]


@pytest.mark.parametrize("fault", ["marks", "ranges"])
def test_servers_that_cannot_go_on_send_all_again(server: str, nbia: Nbia, tmp_path: Path, fault: str) -> None:
    uids = offer(nbia, tmp_path / "source", 1)
    setattr(nbia, fault, False)
    nbia.cuts[uids[1]] = [1000]
    get(tmp_path / "nih", server, nbia)
    ranges = [asked for name, asked in nbia.requests if name == uids[1]]
    assert ranges == ["", "" if fault == "marks" else "bytes=1000-"]


def test_answers_of_unknown_length(server: str, nbia: Nbia, tmp_path: Path) -> None:
    uids = offer(nbia, tmp_path / "source", 1)
    nbia.chunked, nbia.marks = True, False
    nbia.cuts[uids[1]] = [1000]
    get(tmp_path / "nih", server, nbia)
    assert sum(name == uids[1] for name, _ in nbia.requests) == 2


def test_another_version_is_not_patched_onto_the_old_one(server: str, nbia: Nbia, tmp_path: Path) -> None:
    nbia.files["f"] = bytes(5000)
    nbia.cuts["f"] = [1000]
    with pytest.raises(DataError, match=r"could not be downloaded .*what has come is kept"):
        download(f"{server}/f", tmp_path / "f")
    assert not (tmp_path / "f").exists()
    nbia.files["f"] = b"\x01" * 4000
    download(f"{server}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"\x01" * 4000 and sorted(tmp_path.iterdir()) == [tmp_path / "f"]


def test_a_part_longer_than_the_file(server: str, nbia: Nbia, tmp_path: Path) -> None:
    nbia.files["f"] = bytes(5000)
    nbia.cuts["f"] = [1000]
    with pytest.raises(DataError):
        download(f"{server}/f", tmp_path / "f")
    (tmp_path / "f.part").write_bytes(bytes(6000))
    download(f"{server}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == bytes(5000)


def test_one_failing_series_does_not_stop_the_others(server: str, nbia: Nbia, tmp_path: Path) -> None:
    uids = offer(nbia, tmp_path / "source", 1, 2)
    whole = nbia.archives[uids[1]]
    nbia.archives[uids[1]] = archive_of({"1-000.dcm": b"wrong"}, {"1-000.dcm": "0" * 32})
    with pytest.raises(DataError, match=r"1 of 2 series .*run the same command again.*PANCREAS_0001: .*has the MD5"):
        get(tmp_path / "nih", server, nbia)
    assert sum(name == uids[1] for name, _ in nbia.requests) == 3
    assert not any((tmp_path / "nih" / "PANCREAS_0001").iterdir())
    assert (tmp_path / "nih" / "PANCREAS_0002" / uids[2] / "1-000.dcm").is_file()
    nbia.archives[uids[1]] = whole
    get(tmp_path / "nih", server, nbia)
    assert sum(name == uids[2] for name, _ in nbia.requests) == 1
    assert not (tmp_path / "nih" / PARTS).exists()


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ([], "lists no CT series"),
        ({"error": 1}, "did not answer with a list of series"),
        ([{"PatientID": "P"}], "did not answer with a list of series"),
        ([{"SeriesInstanceUID": "../1", "PatientID": "P", "Modality": "CT"}], "ids that cannot be names of folders"),
    ],
)
def test_lists_that_cannot_be_used(server: str, nbia: Nbia, listing: Any, words: str) -> None:
    nbia.listing = listing
    with pytest.raises(DataError, match=words):
        list_series("Pancreas-CT", server=server)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not be downloaded.*check the connection"):
        fetch_collection(tmp_path, "Pancreas-CT", server="http://127.0.0.1:1")
    with pytest.raises(DataError, match="could not be downloaded"):
        read_address("http://127.0.0.1:1/x")


def test_a_place_that_cannot_be_written(server: str, nbia: Nbia, tmp_path: Path) -> None:
    offer(nbia, tmp_path / "source", 1)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the folder"):
        fetch_collection(tmp_path / "file" / "nih", "Pancreas-CT", server=server)


def test_places_in_it_that_cannot_be_written(
    server: str, nbia: Nbia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = offer(nbia, tmp_path / "source", 1)
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih" / "PANCREAS_0001").touch()
    with pytest.raises(OutputError, match=r"cannot write .*PANCREAS_0001"):
        fetch_collection(tmp_path / "nih", "Pancreas-CT", server=server, wait=0.0)
    (tmp_path / "nih" / "PANCREAS_0001").unlink()
    (tmp_path / "nih" / PARTS / "left over").mkdir()
    with pytest.raises(OutputError, match="left over"):
        fetch_collection(tmp_path / "nih", "Pancreas-CT", server=server, wait=0.0)
    assert (tmp_path / "nih" / "PANCREAS_0001" / uids[1] / "1-000.dcm").is_file()
    nbia.files["f"] = bytes(5000)
    (tmp_path / "f").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*/f"):
        download(f"{server}/f", tmp_path / "f")


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../out.dcm", b"x")], "plain files below its own folder only"),
        ([("/etc/out.dcm", b"x")], "plain files below its own folder only"),
        ([("a\\..\\b.dcm", b"x")], "plain files below its own folder only"),
        ([(link("a.dcm"), b"/etc/passwd")], "plain files below its own folder only"),
        ([], "holds no file"),
        ([("a.dcm", b"x")], "has no list of checksums"),
        ([("a.dcm", b"x"), ("md5hashes.csv", b"Filename,MD5Hash\nb.dcm,00")], "lacks b.dcm"),
        ([("a.dcm", b"x"), ("md5hashes.csv", b"Filename,MD5Hash\n")], "holds a.dcm, which its list does not name"),
        ([("a.dcm", b"x"), ("md5hashes.csv", b"File,Sum\na.dcm,00")], "has no list of checksums"),
    ],
)
def test_archives_that_are_not_unpacked(tmp_path: Path, members: list[Any], words: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    with pytest.raises(DataError, match=words):
        unpack(tmp_path / "a.zip", tmp_path / "out", hashes=True)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.zip"]


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_damaged_archives(tmp_path: Path, damage: str) -> None:
    content = bytearray(archive_of({"a.dcm": np.random.default_rng(0).bytes(4000)}))
    if damage == "cut":
        del content[2000:]
    elif damage == "flip":
        content[2000] ^= 255
    else:
        content = bytearray(b"<html>busy</html>")
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="not a whole zip file"):
        unpack(tmp_path / "a.zip", tmp_path / "out", hashes=True)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.zip"]


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetq_datasets._archives.LARGEST", 1000)
    (tmp_path / "a.zip").write_bytes(archive_of({"a.dcm": bytes(100_000)}))
    with pytest.raises(DataError, match="nothing was unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_grey_matter_comes_with_instructions(tmp_path: Path) -> None:
    from unetq_datasets.download import fetch

    with pytest.raises(DataError, match=r"gm cannot be downloaded.*register.*git clone https://.*CC0"):
        fetch("gm", tmp_path)
    assert REGISTRY["nih"].fetcher is fetch_pancreas
