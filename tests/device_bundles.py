"""Bundles for tests: one small trained run, a bundle of it a compiler, and how a target's programs are run here."""

import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from native_library import lacking
from shared_builds import built_once
from small_runs import small

from unetq.export import targets
from unetq.export.bundle import bundle
from unetq.train import train

ZIG = "zig"  # instead of a compiler's name: the ziglang package


def need_zig() -> None:
    """Skip without the ziglang package; CI sets UNETQ_NO_ZIG where pip cannot have it."""
    if importlib.util.find_spec("ziglang") is None:
        if os.environ.get("UNETQ_NO_ZIG"):
            pytest.skip("the ziglang package cannot be had here")
        lacking("the ziglang package is not installed (pip install 'unetq[cross]')")


def need(*tools: str) -> None:
    """Skip, or under CI fail, where one of ``tools`` is missing."""
    for tool in tools:
        if not shutil.which(tool):
            lacking(f"{tool} is not installed")


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """A trained W4A6 network of two levels."""
    return built_once(factory, "bundled-run", lambda place: train(small(), place))


def native_target() -> str:
    """The target that this machine is."""
    return {"x86_64": "x86_64-linux", "aarch64": "aarch64-linux", "armv7l": "armv7-linux"}[platform.machine()]


def bundle_of(factory: pytest.TempPathFactory, target: str, compiler: str) -> Path:
    """The bundle for ``target``, compiled once a session with ``compiler`` (a command, or ``ZIG``)."""
    if compiler == ZIG:
        need_zig()
    else:
        need(compiler)
    need("make")
    cxx = None if compiler == ZIG else compiler
    run = run_folder(factory)
    return built_once(factory, f"{target} {compiler}", lambda place: bundle(run, target, place, cxx))


def emulators(target: str) -> list[list[str]]:
    """How a static program of ``target`` is started: a command's beginning for each processor to try."""
    if target == native_target():
        return [[]]
    recipe = targets.find(target)
    need(recipe.qemu)
    return [[recipe.qemu, "-cpu", cpu] for cpu in recipe.qemu_cpus]


def call(command: list[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end; text captured."""
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=os.environ | environment
    )
