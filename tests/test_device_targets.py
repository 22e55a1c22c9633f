"""The static program for ARM, in an emulator: the masks of this machine's program, byte for byte."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from device_program import call, network, picture, program, save_nifti, save_tiff_pages, write_model
from native_library import lacking
from placed_volumes import RULES, STACK, model_of, save_volume, turned

from unetq.export import targets

TARGETS = ["aarch64-linux", "armv7-linux"]


def programs(factory: pytest.TempPathFactory, target: str) -> tuple[targets.Target, Path, Path]:
    """The target, and the program for this machine and for that; the test is skipped where there is no emulator."""
    recipe = targets.find(target)
    if not shutil.which(recipe.qemu):
        lacking(f"{recipe.qemu} is not installed (apt-get install qemu-user)")
    return recipe, program(factory), program(factory, recipe.gnu_cxx)


def images(folder: Path) -> list[Path]:
    """One image a format, with conversions that differ between processors: wide integers, halves, scaling."""
    stack = picture(2)
    save_tiff_pages(folder / "a.tif", stack.astype(np.uint16) * 211, compression="zlib")
    save_nifti(folder / "b.nii.gz", np.moveaxis(stack, 0, 2).astype(np.float32), (1.37, -20.5))
    np.save(folder / "c.npy", stack.astype(np.float16) / 3)
    np.save(folder / "d.npy", (stack.astype(np.int64) << 40) + 12345)
    return sorted(folder.glob("?.*"))


@pytest.mark.parametrize("target", TARGETS)
def test_masks_are_the_same(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, target: str) -> None:
    recipe, here, there = programs(tmp_path_factory, target)
    model = write_model(tmp_path / "model.uqm")
    (tmp_path / "self-test").mkdir()
    x = np.random.default_rng(4).normal(0, 2, (1, 1, 24, 40)).astype(np.float32)
    shutil.copy2(model, tmp_path / "self-test")
    np.save(tmp_path / "self-test" / "input.npy", x[0])
    np.save(tmp_path / "self-test" / "logits.npy", network().run(x)[0])
    for cpu in recipe.qemu_cpus:
        emulated = [recipe.qemu, "-cpu", cpu, there]
        done = call(*emulated, "--self-test", tmp_path / "self-test")
        assert done.returncode == 0, f"{cpu}: {done.stdout}{done.stderr}"
        for image in images(tmp_path):
            suffix = "".join(image.suffixes)
            masks = []
            for name, command in (("here", [here]), (cpu, emulated)):
                mask = tmp_path / f"mask {name}{suffix}"
                done = call(*command, model, image, "-o", mask, "--threads", "2")
                assert done.returncode == 0, f"{cpu}, {image.name}: {done.stderr}"
                masks.append(mask.read_bytes())
            assert masks[0] == masks[1], f"{cpu}, {image.name}"
        done = call(*emulated, model, tmp_path / "none.tif", "-o", tmp_path / "m.tif")
        assert done.returncode == 3 and "none.tif does not exist" in done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_volumes_in_space(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, target: str) -> None:
    """Rotations, resampling, windows, blending and sums of a volume: all of it is floating point."""
    recipe, here, there = programs(tmp_path_factory, target)
    image = save_volume(tmp_path / "a.nii", STACK, turned("PIR", tilt=0.3), "qform")
    for name in ("all of it", "volume", "3-D all of it"):
        rank, rule = RULES[name]
        model = model_of(tmp_path, rule, rank, classes=3)
        masks = []
        for command in ([here], [recipe.qemu, "-cpu", recipe.qemu_cpus[-1], there]):
            done = call(*command, model, image, "-o", tmp_path / "m.nii")
            assert done.returncode == 0, f"{name}: {done.stderr}"
            masks.append((tmp_path / "m.nii").read_bytes())
        assert masks[0] == masks[1], name
