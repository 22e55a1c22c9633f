"""The targets that a bundle can be made for, and where the runtime's sources are. Imports no torch."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ToolchainError

PACKAGE = Path(__file__).resolve().parent.parent
# A wheel carries the sources beside the library; a checkout has them in deploy/.
PLACES = (PACKAGE / "_native", PACKAGE.parent / "deploy")


@dataclass(frozen=True)
class Target:
    """One recipe of deploy/targets; its README says what each key means."""

    name: str
    description: str
    boards: str
    machine: str
    runtime: str
    zig_program: str
    zig_library: str
    zig_flags: tuple[str, ...]
    gnu_cxx: str
    gnu_debian: str
    wheel_platform: str | None
    qemu: str
    qemu_cpus: tuple[str, ...]
    sysroot: str


def deploy_folder() -> Path:
    """The folder that holds ``runtime`` and ``targets``.

    Raises:
        ToolchainError: this installation has no sources.
    """
    for place in PLACES:
        if (place / "runtime" / "Makefile").is_file() and (place / "targets").is_dir():
            return place
    raise ToolchainError(
        f"the runtime's sources are neither in {PLACES[0]} nor in {PLACES[1]}: this installation is incomplete; "
        "install unetq again from its wheel or its source tree."
    )


def runtime_sources() -> Path:
    """The folder with the runtime's Makefile; same error as ``deploy_folder``."""
    return deploy_folder() / "runtime"


def licence() -> Path:
    """The licence's text; same error as ``deploy_folder``."""
    place = deploy_folder()
    return place / "LICENSE" if (place / "LICENSE").is_file() else place.parent / "LICENSE"


def names() -> list[str]:
    """All targets, sorted."""
    return sorted(path.stem for path in (deploy_folder() / "targets").glob("*.toml"))


def find(name: str) -> Target:
    """The target of that name.

    Raises:
        ConfigError: there is none.
    """
    known = names()
    if name not in known:
        raise ConfigError(f"target {name!r}: known are {', '.join(known)}; choose one of them.")
    values: dict[str, Any] = tomllib.loads((deploy_folder() / "targets" / f"{name}.toml").read_text())
    zig, gnu, test = values["zig"], values["gnu"], values["test"]
    return Target(
        name=name,
        description=values["description"],
        boards=values["boards"],
        machine=values["machine"],
        runtime=values["runtime"],
        zig_program=zig["program"],
        zig_library=zig["libraries"],
        zig_flags=tuple(zig["flags"]),
        gnu_cxx=gnu["cxx"],
        gnu_debian=gnu["debian"],
        wheel_platform=values.get("wheel", {}).get("platform"),
        qemu=test["qemu"],
        qemu_cpus=tuple(test["cpus"]),
        sysroot=test["sysroot"],
    )
