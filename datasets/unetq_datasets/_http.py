"""One file over HTTP: whole or not at all, and gone on with after a cut where the server allows it.

What has come of a file lies beside its place as ``NAME.part`` with ``NAME.part.json``, the server's mark (ETag or
Last-Modified) of the version it belongs to. Only with such a mark is the rest asked for, by Range and If-Range (RFC
9110, sections 13.1.5 and 14); without one, or where the server sends everything again, the file starts anew.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unetq.errors import DataError, OutputError
from unetq.files import write_json

BLOCK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
Tell = Callable[[str], None]


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What the file system refuses within is an ``OutputError`` that names the file, or else ``place``."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename or place}: {error.strerror or error}; free some space or choose another "
            "place; what has come is kept."
        ) from error


def read_address(url: str, largest: int = 1 << 26) -> bytes:
    """A short answer, whole.

    Raises:
        DataError: the server cannot be reached, refuses, or breaks off.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(largest)
            expected = answer.length  # what of Content-Length was not read
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    if expected:
        raise _unreachable(url, f"{expected} bytes are missing")
    return content


def download(url: str, target: Path, tell: Tell = lambda line: None) -> Path:
    """Fetch ``url`` to ``target``, which does not exist yet; what came of it before is not fetched again.

    Args:
        url: http or https.
        target: gets the file once it has come whole by the server's own count; its folder exists.
        tell: called with a line now and then while a large file comes.

    Raises:
        DataError: as ``read_address``; what has come stays for the next time.
        OutputError: it cannot be written.
    """
    part, mark = Path(f"{target}.part"), Path(f"{target}.part.json")
    with writing(part):
        have = part.stat().st_size if part.is_file() else 0
    known = _read_mark(mark, url) if have else ""
    request = urllib.request.Request(url)
    if known:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and known:  # the part is not of this file, or there is nothing left of it
            with writing(part):
                part.unlink()
            return download(url, target, tell)
        raise _unreachable(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    with answer:
        resumed = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
        if answer.status == 206 and not resumed:
            with writing(part):
                part.unlink(missing_ok=True)
            raise _unreachable(url, "it sent another part of the file than was asked for")
        write_json(mark, {"url": url, "mark": _mark_of(answer.headers)})
        _receive(url, answer, part, have if resumed else 0, tell)
    with writing(target):
        part.replace(target)
        mark.unlink(missing_ok=True)
    return target


def _receive(url: str, answer: http.client.HTTPResponse, part: Path, have: int, tell: Tell) -> None:
    whole = have + answer.length if answer.length is not None else None
    told = have
    try:
        with open(part, "ab" if have else "wb") as handle:
            while block := _next_block(url, answer):
                handle.write(block)
                have += len(block)
                if have - told >= 64 * BLOCK:
                    told = have
                    tell(f"  {have / BLOCK:.0f} MiB" + (f" of {whole / BLOCK:.0f}" if whole else ""))
    except OSError as error:
        raise OutputError(f"cannot write {part}: {error.strerror}; free some space, then go on.") from error
    if whole is not None and have != whole:
        raise _unreachable(url, f"it broke off after {have} of {whole} bytes")


def _next_block(url: str, answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _mark_of(headers: http.client.HTTPMessage) -> str:
    """A strong validator: an ETag that is not weak, else the date of the last change."""
    tag = headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""


def _read_mark(mark: Path, url: str) -> str:
    try:
        record = json.loads(mark.read_text())
    except (OSError, ValueError):
        return ""
    return str(record.get("mark", "")) if isinstance(record, dict) and record.get("url") == url else ""


def _unreachable(url: str, reason: object) -> DataError:
    return DataError(
        f"{url} could not be downloaded ({reason}): the server must be reachable; check the connection and run the "
        "same command again: what has come is kept."
    )
