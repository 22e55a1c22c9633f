"""A folder for the engineer of a device: model, static program, library, header, example, sums, self-test.

torch is imported only to export a run; a model file is bundled without it.
"""

import hashlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from .. import __version__
from ..errors import DeviceError, ModelFileError, ToolchainError
from ..files import atomic_folder, refuse_full_folder
from ..runtime import Runtime
from . import golden as goldens
from . import targets
from .build import Tick, compile_all
from .elf import Elf, read_elf
from .guide import Memory, readme
from .modelfile import load
from .program import Program
from .targets import Target
from .toolchain import choose

MODEL, PROGRAM, LIBRARY, ARCHIVE = "model.uqm", "unetq-run", "libunetq.so", "libunetq.a"
SUMS, SELF_TEST = "SHA256SUMS", "self-test"
USUAL = {2: 512, 3: 64}  # an axis of the image whose memory the README tells, beside the self-test's


def bundle(
    source: Path,
    target_name: str,
    out: Path,
    cxx: str | None = None,
    tick: Tick = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Make the folder ``out``, whole or not at all, from a run folder or a ``.uqm`` file.

    Args:
        source: what to bundle; of a run its best network.
        target_name: a recipe of deploy/targets.
        out: must not exist, or be an empty folder.
        cxx: a compiler's command line; by default zig from the ``ziglang`` package.
        tick: called while compiling. say: called with a sentence before something slow.

    Returns:
        ``path``, ``target``, ``compiler``, ``isas``, ``glibc`` (the oldest that libunetq.so runs with),
        ``arena_bytes`` (by image size), ``files`` with ``bytes`` and ``sha256``.

    Raises:
        ConfigError: an unknown target.
        OutputError: ``out`` is not empty or cannot be written.
        ToolchainError: no compiler, a wrong one, or a failed compilation.
        CheckpointError, ModelFileError, UnsupportedError: ``source`` gives no model.
    """
    target = targets.find(target_name)
    refuse_full_folder(out)
    toolchain = choose(target, cxx)
    with (
        _ending_in_order(),
        atomic_folder(out) as folder,
        tempfile.TemporaryDirectory(prefix="unetq-bundle-") as place,
    ):
        _put_model(source, folder / MODEL)
        program, meta = load(folder / MODEL)
        # Sums of floats depend on their order, which kernels choose: there is nothing to compare bit for bit.
        golden = _put_self_test(program, folder) if goldens.is_exact(program) else None
        if toolchain.first_build:
            say(f"compiling for {target.name} ({toolchain.first_build})")
        built, isas = compile_all(target, toolchain, Path(place), tick)
        library = _check(built, target)
        for name in (PROGRAM, LIBRARY, ARCHIVE):
            shutil.copy(built / name, folder / name)
        runtime = targets.runtime_sources()
        shutil.copyfile(runtime / "include" / "unetq.h", folder / "unetq.h")
        shutil.copyfile(runtime / "examples" / "example.c", folder / "example.c")
        shutil.copyfile(targets.licence(), folder / "LICENSE")
        memory = _memory(folder / MODEL, program, meta.preprocessing.window)
        facts = {"unetq": __version__, "target": target.name, "compiler": toolchain.version}
        text = readme(target, program, meta, golden, memory, library, isas, facts)
        (folder / "README.txt").write_text(text, encoding="utf-8")
        files = _sums(folder)
        (folder / SUMS).write_text("".join(f"{facts['sha256']}  {name}\n" for name, facts in files.items()))
    return {
        "path": str(out),
        "target": target.name,
        "compiler": toolchain.version,
        "isas": isas,
        "glibc": ".".join(map(str, library.glibc)) if library.glibc else None,
        "arena_bytes": [{"size": list(m.size), "bytes": m.arena_bytes} for m in memory],
        "files": files,
    }


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP clean up as Ctrl-C does; exit code 128 + the signal's number."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python lets only that one set handlers
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe(found: dict[str, Any]) -> str:
    """The result of ``bundle`` as text for a terminal."""
    total = sum(file["bytes"] for file in found["files"].values())
    return (
        f"{found['path']}: {len(found['files']) + 1} files, {total} bytes, for {found['target']} "
        f"({', '.join(found['isas'])}; {found['compiler']}). Next: {found['path']}/README.txt"
    )


def _put_model(source: Path, place: Path) -> None:
    if source.is_file():
        load(source)  # a damaged file is named as the caller knows it
        shutil.copyfile(source, place)
    elif source.suffix == ".uqm" and not source.exists():
        raise ModelFileError(f"{source}: no such file; name a run folder or a model file.")
    else:
        from .run import export

        export(source, place)


def _put_self_test(program: Program, folder: Path) -> goldens.Golden:
    golden = goldens.make(program)
    place = folder / SELF_TEST
    place.mkdir()
    shutil.copyfile(folder / MODEL, place / MODEL)
    np.save(place / "input.npy", golden.input)
    np.save(place / "logits.npy", golden.logits)
    return golden


def _check(built: Path, target: Target) -> Elf:
    """The compiler's arguments may have changed what it makes: look at the results."""
    program, library = read_elf(built / PROGRAM), read_elf(built / LIBRARY)
    for name, elf in ((PROGRAM, program), (LIBRARY, library)):
        if elf is None or elf.machine != target.machine:
            raise ToolchainError(
                f"{name} was made for {elf.machine if elf else 'an unknown machine'}, {target.name} needs "
                f"{target.machine}; check the arguments of --cxx."
            )
    assert program is not None and library is not None
    if not program.is_static:
        raise ToolchainError(
            f"{PROGRAM} is not static, it needs {', '.join(program.needed) or 'a dynamic loader'}; "
            "check the arguments of --cxx."
        )
    return library


def _memory(model: Path, program: Program, window: tuple[int, ...]) -> list[Memory]:
    """The plan of this machine's library with scalar kernels; nothing where there is no library.

    With a ``window`` no image takes more than that.
    """
    skip = 3 - program.spatial_rank
    sizes = {goldens.size_for(program)}
    if window:
        sizes.add(window)
    elif program.fixed_size is None:
        usual = USUAL[program.spatial_rank]
        sizes.add(tuple(-(-usual // multiple) * multiple for multiple in program.input_multiple[skip:]))
    try:
        with Runtime(model, "scalar") as runtime:
            return [Memory(size, runtime.plan(size).arena_bytes) for size in sorted(sizes)]
    except DeviceError:
        return []


def _sums(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file, by its path in the folder."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found[path.relative_to(folder).as_posix()] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return found
