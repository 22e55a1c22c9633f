"""Orientation, spacing, neighbours, windows, moments of the volume: ``unetq-run`` as ``unetq predict``, to the byte."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from device_program import META, call, picture, program, write_model
from placed_volumes import (
    IMAGE,
    RULES,
    STACK,
    UNSUPPORTED,
    USAGE,
    both_refuse,
    model_of,
    same_bytes,
    save_volume,
    turned,
)

from unetq.export.program import ModelMeta, Preprocessing
from unetq.geometry import axes_of
from unetq.imageio import read_image
from unetq.predict import predict


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program(tmp_path_factory)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("classes", [1, 3])
def test_every_rule(device: Path, tmp_path: Path, name: str, classes: int) -> None:
    rank, rule = RULES[name]
    model = model_of(tmp_path, rule, rank, classes)
    stack = STACK.astype(np.float32) / 60 - 1.5 if rule.normalize == "none" else STACK
    for number, code in enumerate(("RAS", "LPS", "SAL", "PIR")):
        affine = turned(code, tilt=0.2 * (number % 2), seed=number)
        assert axes_of(affine) == code
        same_bytes(device, model, save_volume(tmp_path / "a.nii", stack, affine))


def test_random_ways(device: Path, tmp_path: Path) -> None:
    """Any rule on any small volume in any place; most masks have more than one class."""
    several = 0
    for seed in range(30):
        rng = np.random.default_rng([20261121, seed])

        def code(rng: np.random.Generator = rng) -> str:
            return "".join(rng.permutation([rng.choice(list(pair)) for pair in ("LR", "AP", "SI")]))

        rank = int(rng.integers(2, 4))
        spacing = np.where(rng.random(rank) < 0.8, rng.uniform(0.4, 2.5, rank), 0.0)
        windows = rng.integers(1, 4, rank) * (4 if rank == 3 else 8)
        rule = Preprocessing(
            str(rng.choice(["none", "zscore", "window"])), -1.0, 90.0, str(rng.choice(["image", "volume"])),  # type: ignore[arg-type]
            code() if rng.random() < 0.7 else "", tuple(map(float, spacing)) if rng.random() < 0.7 else (),
            int(rng.integers(3)) if rank == 2 else 0, tuple(map(int, windows)) if rng.random() < 0.6 else (),
            float(rng.uniform(0, 0.9)),
        )  # fmt: skip
        stack = picture(*(int(n) for n in rng.integers(2, 34, 3)), seed=seed)
        stack = (stack / 60 - 1.5).astype(np.float32) if rule.normalize == "none" else stack
        affine = turned(code(), rng.uniform(0.3, 4, 3), float(rng.uniform(0, 0.4)), seed)
        image = save_volume(tmp_path / "a.nii", stack, affine, str(rng.choice(["both", "sform", "qform"])))
        model = model_of(tmp_path, rule, rank, int(rng.choice([1, 3])))
        predict(model, image, tmp_path / "theirs.nii", allow_small=True)
        done = call(device, model, image, "-o", tmp_path / "ours.nii", "--allow-small")
        assert done.returncode == 0, (seed, done.stderr)
        assert (tmp_path / "ours.nii").read_bytes() == (tmp_path / "theirs.nii").read_bytes(), (seed, rule)
        several += len(np.unique(read_image(tmp_path / "ours.nii").data)) > 1
    assert several > 20


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["turned", "coarser", "volume", "windows", "3-D", "3-D all of it"])
def test_several_channels(device: Path, tmp_path: Path, name: str, kind: Any) -> None:
    rank, rule = RULES[name]
    meta = ModelMeta("placed", ("a", "b"), (3, 77), rule)
    model = write_model(tmp_path / "m.uqm", meta, rank=rank, channels=2, multiple=4 if rank == 3 else 8)
    stack = np.stack([STACK, picture(9, 30, 26, seed=5)], axis=-1)
    image = kind(np.moveaxis(stack, 0, 2), turned("PIR"), dtype=np.uint8)
    image.header["pixdim"][4] = 3.5
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    assert same_bytes(device, model, tmp_path / "a.nii").shape == STACK.shape
    both_refuse(
        device,
        model_of(tmp_path, rule, rank),
        tmp_path / "a.nii",
        UNSUPPORTED,
        "takes 1 channels and the image gives 2",
    )
    image = kind(np.moveaxis(stack, 0, 2)[..., None, :1], turned("PIR"), dtype=np.uint8)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    assert same_bytes(device, model_of(tmp_path, rule, rank), tmp_path / "a.nii").shape == STACK.shape


def test_real_volumes(device: Path, tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    """Spinal cords of two sites, each stored in its own way, a part of each."""
    stored = set()
    for path in sorted(real_data("gm").glob("sub-*/anat/*.nii.gz"))[::3]:
        whole = nibabel.load(path)
        sides = [slice(n // 2 - 32, n // 2 + 33) if n > 65 else slice(0, n) for n in whole.shape]
        part = whole.slicer[sides[0], sides[1], : min(whole.shape[2], 9)]
        (tmp_path / "a.nii").write_bytes(part.to_bytes())
        stored.add("".join(nibabel.aff2axcodes(part.affine)))
        for rank, rule in (
            (2, Preprocessing("zscore", 0, 1, "volume", "RPI", (0.4, 0.4), 1, (32, 32), 0.5)),
            (3, Preprocessing("zscore", orientation="LAS", spacing=(4.0, 0.6, 0.6), window=(4, 24, 24))),
        ):
            same_bytes(device, model_of(tmp_path, rule, rank), tmp_path / "a.nii", options=["--allow-small"])
    assert stored


def test_neighbours_of_several_channels(device: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.uqm", replace(META, preprocessing=Preprocessing("zscore", context=1)), channels=6)
    both_refuse(device, model, save_volume(tmp_path / "a.nii", STACK, turned("RAS")), UNSUPPORTED, "must be equal")


def test_a_geometry_told_by_hand(device: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path, RULES["turned, resampled"][1])
    image = tmp_path / "a.npy"
    np.save(image, STACK)
    both_refuse(device, model, image, IMAGE, "--axes LAS")
    both_refuse(device, model, image, IMAGE, "--spacing SLICES,ROWS,COLUMNS", axes="LPS")
    same_bytes(device, model, image, "LPS", (2.5, 0.8, 1.1))
    same_bytes(device, model, image, "SAR", (1.1, 0.8, 1.1))
    both_refuse(device, model, image, USAGE, "three letters", axes="LAL")
    both_refuse(device, model, image, USAGE, "three letters", axes="las")
    both_refuse(device, model, image, USAGE, "three lengths", axes="LPS", spacing=(1.0, 0.0, 1.0))
    both_refuse(device, model, image, USAGE, "three lengths", axes="LPS", spacing=(1.0, 2.0))
    placed = save_volume(tmp_path / "a.nii", STACK, turned("LPS"))
    both_refuse(device, model, placed, USAGE, "leave it out", axes="RAS")
    both_refuse(device, model, placed, USAGE, "leave it out", spacing=(2.5, 0.8, 1.2))
    same_bytes(device, model, placed, "LPS", (2.5, 0.8, 1.1))


def test_small_once_resampled(device: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path, Preprocessing("zscore", spacing=(9.0, 1.1)))
    image = save_volume(tmp_path / "a.nii", STACK, turned("LPS"))
    both_refuse(
        device, model, image, IMAGE, "(30 x 26) once resampled to 3 x 26 is smaller than the model's stride (8 x 8)"
    )
    same_bytes(device, model, image, options=["--allow-small"])


def test_the_volume_is_told_of(device: Path, tmp_path: Path) -> None:
    image = save_volume(tmp_path / "a.nii", STACK, turned("LPS"))
    for name, held in (
        ("finer", False),
        ("slices turned", True),
        ("volume", True),
        ("neighbours", True),
        ("3-D", True),
    ):
        rank, rule = RULES[name]
        done = call(device, model_of(tmp_path, rule, rank), image, "-o", tmp_path / "m.nii", "--memory")
        assert done.returncode == 0 and done.stdout.count("\n") == 2 + held, (name, done.stdout)
        assert ("volume: held whole" in done.stdout) == held


def test_a_volume_too_large_for_memory(device: Path, tmp_path: Path) -> None:
    """Refused before anything is computed or written."""
    model = model_of(tmp_path, Preprocessing("zscore", spacing=(0.001, 0.001), over="volume"))
    image = save_volume(tmp_path / "a.nii", STACK, turned("LPS"))
    done = call(device, model, image, "-o", tmp_path / "m.nii")
    assert done.returncode == 7 and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "m.nii").exists()
