"""Downloads against a server on this machine: whole and right, or not at all."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from unetq_datasets.download import REGISTRY, RemoteFile, Source, fetch

from unetq.errors import ConfigError, DataError, OutputError

CONTENT = bytes(range(256)) * 500
GOOD, WRONG = hashlib.sha256(CONTENT).hexdigest(), hashlib.sha256(b"another").hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Handler.requests.append(self.path)
        if self.path == "/missing.tif":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut.tif" else CONTENT)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Handler.requests.clear()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


def registry(url: str, sha256: str = GOOD) -> dict[str, Source]:
    return {"toy": Source(files={"toy.tif": RemoteFile(url, sha256)})}


def test_a_download_is_checked_and_kept(server: str, tmp_path: Path) -> None:
    sources = registry(f"{server}/toy.tif", GOOD.upper())
    (path,) = fetch("toy", tmp_path / "new" / "folder", registry=sources)
    assert path == tmp_path / "new" / "folder" / "toy.tif" and path.read_bytes() == CONTENT
    assert fetch("toy", path.parent, registry=sources) == [path]
    assert Handler.requests == ["/toy.tif"]  # the second time, the file was there


@pytest.mark.parametrize(
    ("page", "sha256", "words"),
    [
        ("toy.tif", WRONG, "is not the file it should be"),
        ("cut.tif", GOOD, "is not the file it should be|could not be downloaded"),
        ("missing.tif", GOOD, "could not be downloaded.*404"),
    ],
)
def test_wrong_files_are_not_kept(server: str, tmp_path: Path, page: str, sha256: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fetch("toy", tmp_path, registry=registry(f"{server}/{page}", sha256))
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_an_error_that_says_so(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not be downloaded.*check the connection"):
        fetch("toy", tmp_path, registry=registry("http://127.0.0.1:1/toy.tif"))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_that_differs_is_not_overwritten(server: str, tmp_path: Path) -> None:
    (tmp_path / "toy.tif").write_bytes(b"mine")
    with pytest.raises(DataError, match="nothing is overwritten; move it away"):
        fetch("toy", tmp_path, registry=registry(f"{server}/toy.tif"))
    assert (tmp_path / "toy.tif").read_bytes() == b"mine" and Handler.requests == []


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the folder"):
        fetch("toy", tmp_path / "file" / "folder", registry=registry("http://127.0.0.1:1/toy.tif"))


def test_places_that_take_nothing(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file system refuses is an OutputError, of the tool that writes and of the one that asks."""
    (tmp_path / "file").touch()
    for name, sources in (("nih", REGISTRY), ("toy", registry(f"{server}/toy.tif"))):
        with pytest.raises(OutputError, match=r"cannot .*file"):
            fetch(name, tmp_path / "file", registry=sources)
        if Path("/proc/self").exists():
            with pytest.raises(OutputError, match=r"cannot .*/proc/x"):
                fetch(name, "/proc/x", registry=sources)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pooch.retrieve", full)
    with pytest.raises(OutputError, match=r"cannot write .*toy\.tif: No space left"):
        fetch("toy", tmp_path, registry=registry(f"{server}/toy.tif"))
    (tmp_path / "toy.tif").mkdir()
    with pytest.raises(DataError, match=r"toy\.tif cannot be read"):
        fetch("toy", tmp_path, registry=registry(f"{server}/toy.tif"))


def test_em_comes_with_instructions_or_is_already_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"em cannot be downloaded.*register.*{tmp_path}.*Cardona"):
        fetch("em", tmp_path)
    for name in ("train-volume.tif", "train-labels.tif"):
        (tmp_path / name).touch()
    assert [path.name for path in fetch("em", tmp_path)] == ["train-volume.tif", "train-labels.tif"]


def test_the_registry_is_sound() -> None:
    with pytest.raises(ConfigError, match="'emm'; did you mean 'em'"):
        fetch("emm", "nowhere")
    for name, source in REGISTRY.items():
        assert source.files or source.instructions or source.fetcher, name
        for remote in source.files.values():
            assert remote.url.startswith("https://") and len(bytes.fromhex(remote.sha256)) == 32
