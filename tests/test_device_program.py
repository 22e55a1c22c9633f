"""``unetq-run`` on every kind of model, on every size and on real slices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from device_program import call, picture, same_mask, save_nifti, write_model
from native_library import instruction_sets

from unetq.export.program import ModelMeta, Preprocessing

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


def test_the_summary(device: Path, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    done = call(device, model, tmp_path / "a.npy", "-o", tmp_path / "m.npy", "--time", "--memory")
    assert done.returncode == 0 and not done.stderr
    first, time, memory = done.stdout.splitlines()
    assert "3 slice(s) of 34 x 47" in first and "1 thread(s)" in first
    assert all(word in time for word in ("load", "preprocess", "run", "write"))
    arena, peak = (int(word) for word in memory.split() if word.isdigit())
    assert 0 < arena < peak
