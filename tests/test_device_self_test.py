"""``unetq-run --self-test``: golden vectors on every instruction set, bit for bit."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from device_program import META, call, network, program

from unetq.export.modelfile import save

IMAGE, MODEL, MISMATCH = 3, 4, 8


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program(tmp_path_factory)


def refused(device: Path, folder: Path, code: int, words: str) -> None:
    done = call(device, "--self-test", folder)
    assert done.returncode == code and re.search(words, done.stderr), (done.returncode, done.stderr)


def golden(folder: Path) -> None:
    folder.mkdir()
    made = network()
    save(made, folder / "model.uqm", META)
    x = np.random.default_rng(4).normal(0, 2, (1, 1, 40, 48)).astype(np.float32)
    np.save(folder / "input.npy", x[0])
    np.save(folder / "logits.npy", made.run(x)[0])


def test_self_test(device: Path, tmp_path: Path) -> None:
    golden(tmp_path / "self-test")
    done = call(device, "--self-test", tmp_path / "self-test")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("scalar: ok") and re.match(rf"self-test passed on {len(lines) - 1} ", lines[-1])
    beside = tmp_path / "unetq-run"
    shutil.copy2(device, beside)
    assert call(beside, "--self-test", cwd="/").returncode == 0
    one = call(beside, "--self-test", "--isa", "scalar", "--threads", "2")
    assert one.returncode == 0 and len(one.stdout.splitlines()) == 2


def test_a_failing_self_test(device: Path, tmp_path: Path) -> None:
    folder = tmp_path / "self-test"
    golden(folder)
    logits = np.load(folder / "logits.npy")
    logits.view(np.uint32)[0, 7, 9] ^= 1
    np.save(folder / "logits.npy", logits)
    done = call(device, "--self-test", folder)
    assert done.returncode == MISMATCH and "MISMATCH" in done.stdout and "self-test failed on" in done.stderr
    np.save(folder / "logits.npy", logits[:, 1:])
    refused(device, folder, IMAGE, "golden vectors of 1920 and 1872 numbers")
    np.save(folder / "logits.npy", logits.astype(np.float64))
    refused(device, folder, IMAGE, "float32 in C order")
    (folder / "model.uqm").unlink()
    np.save(folder / "logits.npy", logits)
    refused(device, folder, MODEL, "model.uqm does not exist")
    refused(device, tmp_path / "nowhere", IMAGE, "nowhere.*does not exist")
