"""What a compiled file says of itself: machine, kind, and the libraries it needs. Standard library only."""

import struct
from dataclasses import dataclass
from pathlib import Path

MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
KINDS = {1: "object", 2: "executable", 3: "shared"}
ARM_HARD_FLOAT = 0x400
INTERPRETER = 3  # a program header of this type names the dynamic loader
DYNAMIC, VERSIONS_NEEDED = 6, 0x6FFFFFFE  # section types
NEEDED = 1  # an entry of the dynamic section


@dataclass(frozen=True)
class Elf:
    """One ELF file. ``glibc`` is the newest GLIBC symbol version it asks for, or None."""

    machine: str
    bits: int
    kind: str
    hard_float: bool
    interpreter: bool
    needed: tuple[str, ...]
    glibc: tuple[int, ...] | None

    @property
    def is_static(self) -> bool:
        """No dynamic loader and no shared library."""
        return not self.interpreter and not self.needed


class _File:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.wide = data[4] == 2
        self.order = "<" if data[5] == 1 else ">"

    def unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + layout, self.data, offset)

    def text(self, offset: int) -> str:
        return self.data[offset : self.data.index(b"\0", offset)].decode()


def _glibc_versions(file: _File, offset: int, count: int, strings: int) -> list[tuple[int, ...]]:
    """The GLIBC versions in a "version needed" section: a list of libraries, each with a list of versions."""
    found = []
    for _ in range(count):
        _, entries, _, first, following = file.unpack("HHIII", offset)
        entry = offset + first
        for _ in range(entries):
            _, _, _, name, further = file.unpack("IHHII", entry)
            label = file.text(strings + name)
            if label.startswith("GLIBC_") and label[6:7].isdigit():
                found.append(tuple(int(part) for part in label[6:].split(".")))
            entry += further
        offset += following
    return found


def _dynamic(file: _File, start: int, size: int, strings: int) -> list[str]:
    layout, step = ("QQ", 16) if file.wide else ("II", 8)
    pairs = [file.unpack(layout, start + at) for at in range(0, size, step)]
    return [file.text(strings + value) for tag, value in pairs if tag == NEEDED]


def read_elf(path: Path) -> Elf | None:
    """The file's facts; None where it is no ELF file, or a cut one."""
    data = path.read_bytes()
    if data[:4] != b"\x7fELF" or len(data) < 52:
        return None
    try:
        return _read(_File(data))
    except (struct.error, ValueError, IndexError):
        return None


def _read(file: _File) -> Elf:
    kind, machine, _ = file.unpack("HHI", 16)
    header = file.unpack("QQQIHHHHHH" if file.wide else "IIIIHHHHHH", 24)
    _, programs, sections, flags, _, program_bytes, program_count, section_bytes, section_count, _ = header
    types = [file.unpack("I", programs + i * program_bytes)[0] for i in range(program_count)]
    # (type, offset, size, link, info) of each section
    layout, fields = ("IIQQQQII", (1, 4, 5, 6, 7)) if file.wide else ("IIIIIIII", (1, 4, 5, 6, 7))
    headers = [file.unpack(layout, sections + i * section_bytes) for i in range(section_count)]
    table = [tuple(header[field] for field in fields) for header in headers]
    needed: list[str] = []
    versions: list[tuple[int, ...]] = []
    for what, offset, size, link, info in table:
        if what == DYNAMIC:
            needed += _dynamic(file, offset, size, table[link][1])
        elif what == VERSIONS_NEEDED:
            versions += _glibc_versions(file, offset, info, table[link][1])
    return Elf(
        machine=MACHINES.get(machine, f"machine {machine}"),
        bits=64 if file.wide else 32,
        kind=KINDS.get(kind, f"kind {kind}"),
        hard_float=machine == 40 and bool(flags & ARM_HARD_FLOAT),
        interpreter=INTERPRETER in types,
        needed=tuple(needed),
        glibc=max(versions, default=None),
    )
