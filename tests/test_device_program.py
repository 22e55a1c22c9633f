"""``unetq-run`` on every kind of model, on every size and on real slices; its preprocessing to the last bit."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from device_program import call, picture, same_mask, save_nifti, write_model
from native_library import SOURCES, instruction_sets

from unetq.export.program import ModelMeta, Preprocessing
from unetq.preprocess import normalize, pad_to_size, padded_size

STACK = picture()


# ------------------------------------------------------------------------------------- models and sizes


@pytest.mark.parametrize("size", [(16, 24), (21, 34), (5, 40), (1, 1), (1, 9), (3, 2), (8, 8), (9, 9)])
def test_sizes_that_are_extended(device: Path, model: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    stack = np.random.default_rng(1).integers(0, 255, (3, *size), dtype=np.uint8)
    stack[0, 0, 0], stack[1, -1, -1] = 3, 250
    np.save(tmp_path / "a.npy", stack)
    same_mask(device, model, tmp_path / "a.npy", "", *(["--allow-small"] if min(size) < 8 else []))


@pytest.mark.parametrize("rule", [Preprocessing("none"), Preprocessing("window", 40, 200.5), Preprocessing("zscore")])
@pytest.mark.parametrize("classes", [1, 4])
def test_models_of_all_kinds(device: Path, tmp_path: Path, rule: Preprocessing, classes: int) -> None:
    names, values = ("a", "b", "c", "d")[: max(classes, 2)], (0, 7, 8, 255)[: max(classes, 2)]
    model = write_model(tmp_path / "m.uqm", ModelMeta("kinds", names, values, rule), classes=classes)
    data = STACK / 64 - 1.5 if rule.normalize == "none" else STACK
    np.save(tmp_path / "a.npy", data.astype(np.float32))
    ours, _ = same_mask(device, model, tmp_path / "a.npy")
    assert set(np.unique(np.load(ours))) <= set(values)


def test_a_volume_model_and_one_of_one_size(device: Path, tmp_path: Path) -> None:
    volume = write_model(tmp_path / "v.uqm", rank=3, multiple=4)
    np.save(tmp_path / "a.npy", picture(6, 18, 21))
    same_mask(device, volume, tmp_path / "a.npy", ".tif")
    save_nifti(tmp_path / "a.nii.gz", np.moveaxis(picture(5, 18, 21), 0, 2).astype(np.int16))
    same_mask(device, volume, tmp_path / "a.nii.gz")
    fixed = write_model(tmp_path / "f.uqm", fixed=(1, 40, 64))
    np.save(tmp_path / "a.npy", STACK)
    same_mask(device, fixed, tmp_path / "a.npy")


def test_a_slice_of_one_value_is_no_error(device: Path, model: Path, tmp_path: Path) -> None:
    stack = STACK.copy()
    stack[1] = 9
    np.save(tmp_path / "a.npy", stack)
    same_mask(device, model, tmp_path / "a.npy")


def test_instruction_sets_and_threads(device: Path, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    same_mask(device, model, tmp_path / "a.npy", "", "--threads", "3")
    for isa in instruction_sets():
        same_mask(device, model, tmp_path / "a.npy", "", "--isa", isa)
        done = call(device, model, tmp_path / "a.npy", "-o", tmp_path / "m.npy", f"--isa={isa}")
        assert isa in done.stdout


def test_real_slices(device: Path, model: Path, tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    em = tifffile.imread(real_data("em") / "test-volume.tif")
    tifffile.imwrite(tmp_path / "a.tif", em[:2, :150, :130])
    same_mask(device, model, tmp_path / "a.tif")
    for path in [
        *sorted(real_data("gm").glob("sub-*/anat/*.nii.gz"))[::3],
        *real_data("gm-challenge-protocol").glob("t2s_*cropped.nii.gz"),
    ]:
        image = tmp_path / f"{path.name}"
        image.write_bytes(path.read_bytes())
        ours, theirs = same_mask(device, model, image, ".nii")
        assert ours.read_bytes() == theirs.read_bytes()
    image = tmp_path / "ct.npy"
    image.write_bytes(next(iter(sorted(real_data("nih").glob("slices/*.npy")))).read_bytes())
    same_mask(device, model, image)


# --------------------------------------------------------------------------------------- preprocessing

SHIM = """
#include "preprocess.h"
extern "C" void sums(const float* values, uint64_t count, double* both) {
    tool::statistics(values, count, both, both + 1);
}
extern "C" int shim(float* values, uint32_t rule, double low, double high, const uint32_t* from, const uint32_t* to) {
    const uint64_t count = static_cast<uint64_t>(from[0]) * from[1] * from[2];
    const bool finite = tool::normalize(values, count, rule, low, high);
    tool::pad(values, from, to);
    return finite;
}
"""


def test_preprocessing_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """A mask hides small differences; the network's input itself does not."""
    (tmp_path / "shim.cpp").write_text(SHIM)
    compiler = os.environ.get("CXX", "c++").split()
    tools = SOURCES / "tools"
    command = [*compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{tools}"]
    subprocess.run([*command, "-o", tmp_path / "shim.so", tmp_path / "shim.cpp", tools / "preprocess.cpp"], check=True)
    library = ctypes.CDLL(str(tmp_path / "shim.so"))
    shim, sums = library.shim, library.sums
    rng = np.random.default_rng(11)
    rules = [Preprocessing("none"), Preprocessing("zscore"), Preprocessing("window", -40.0, 217.3)]
    for trial in range(150):
        rank = 2 if trial % 3 else 3
        shape = tuple(int(n) for n in rng.integers(1, 130 if rank == 2 else 24, rank))
        wide = padded_size(shape, tuple(int(n) for n in rng.integers(1, 17, rank)))
        data = (rng.standard_normal(shape) * rng.choice([1e-9, 1, 300]) + rng.choice([0, 1000])).astype(np.float32)
        both = np.zeros(2)
        sums(data.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(data.size), both.ctypes.data_as(ctypes.c_void_p))
        whole, axes = data[None].astype(np.float64), tuple(range(1, rank + 1))
        assert (both == (whole.mean(axis=axes)[0], whole.std(axis=axes)[0])).all(), f"trial {trial}: {shape}"
        number = int(rng.integers(3))
        expected = pad_to_size(normalize(data[None], rules[number]), wide)[0]
        buffer = np.full(wide, np.nan, np.float32)
        buffer.reshape(-1)[: data.size] = data.reshape(-1)
        sizes = [(ctypes.c_uint32 * 3)(*((1,) * (3 - rank) + s)) for s in (shape, wide)]
        low, high = ctypes.c_double(rules[number].low), ctypes.c_double(rules[number].high)
        pointer = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        assert shim(pointer, number, low, high, *sizes) == 1
        np.testing.assert_array_equal(buffer, expected, err_msg=f"trial {trial}: {shape} to {wide}, rule {number}")


def test_the_summary(device: Path, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    done = call(device, model, tmp_path / "a.npy", "-o", tmp_path / "m.npy", "--time", "--memory")
    assert done.returncode == 0 and not done.stderr
    first, time, memory = done.stdout.splitlines()
    assert "3 slice(s) of 34 x 47" in first and "1 thread(s)" in first
    assert all(word in time for word in ("load", "preprocess", "run", "write"))
    arena, peak = (int(word) for word in memory.split() if word.isdigit())
    assert 0 < arena < peak
