"""Where ``unetq-run`` takes a NIfTI volume to lie: as ``unetq predict``, which asks nibabel, also of odd headers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from device_program import META, call, program, write_model
from placed_volumes import IMAGE, RULES, STACK, both_refuse, model_of, same_bytes, save_volume, turned

from unetq.export.program import Preprocessing
from unetq.imageio import read_image
from unetq.predict import predict


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program(tmp_path_factory)


@pytest.mark.parametrize("form", ["both", "sform", "qform"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_oblique_affines_in_every_form(device: Path, tmp_path: Path, form: str, kind: Any) -> None:
    rule = Preprocessing("zscore", orientation="LAS", spacing=(0.9, 0.9))
    model, masks = model_of(tmp_path, rule), set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        code = "".join(rng.permutation([rng.choice(list(pair)) for pair in ("LR", "AP", "SI")]))
        affine = turned(code, rng.uniform(0.4, 3.0, 3), tilt=0.35, seed=seed)
        masks.add(same_bytes(device, model, save_volume(tmp_path / "a.nii", STACK, affine, form, kind)).tobytes())
    assert len(masks) == 4, "the place of the volume makes no difference"


def test_sheared_grids(device: Path, tmp_path: Path) -> None:
    """A tilted gantry: the closest axes are those of the nearest rotation."""
    affine = turned("LPS")
    affine[1, 2] += 0.9
    same_bytes(
        device,
        model_of(tmp_path, RULES["turned, resampled"][1]),
        save_volume(tmp_path / "a.nii", STACK, affine, "sform"),
    )


def test_sizes_without_directions(device: Path, tmp_path: Path) -> None:
    image = save_volume(tmp_path / "a.nii", STACK, turned("LPS"), "pixdim")
    same_bytes(device, model_of(tmp_path, RULES["finer"][1]), image)
    model = model_of(tmp_path, RULES["turned, resampled"][1])
    both_refuse(device, model, image, IMAGE, "give the directions")
    plain, other = (same_bytes(device, model, image, axes=axes) for axes in ("LPS", "SRA"))
    assert (plain != other).any()


def test_a_2d_file_and_micrometres(device: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path, Preprocessing("zscore", orientation="AL" + "S", spacing=(1.0, 0.7)))
    affine = turned("PRI", (900, 500, 1000))
    image = nibabel.Nifti1Image(STACK[3], affine, dtype=np.uint8)
    image.header.set_xyzt_units("micron")
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    assert same_bytes(device, model, tmp_path / "a.nii").shape == (1, 30, 26)


def broken(path: Path, change: Callable[[Any], None]) -> Path:
    image = nibabel.load(save_volume(path, STACK, turned("LPS")))
    change(image.header)
    image.header["vox_offset"] = 352
    content = bytearray(path.read_bytes())
    content[: len(image.header.binaryblock)] = image.header.binaryblock
    path.write_bytes(content)
    return path


def test_impossible_places(device: Path, tmp_path: Path) -> None:
    """Refused whatever the model wants, as ``unetq predict`` does."""

    def set_to(**fields: Any) -> Callable[[Any], None]:
        def change(header: Any) -> None:
            for name, value in fields.items():
                header[name] = value

        return change

    model = write_model(tmp_path / "m.uqm", META)
    for change, words in (
        (set_to(srow_x=(np.nan, 0, 0, 0)), "finite"),
        (set_to(srow_x=0), "length 0"),
        (set_to(srow_x=(0, 1, 0, 0), srow_y=(0, 0, 1, 0), srow_z=(0, 0, 1, 0)), "length 0"),
        (set_to(srow_x=(1, 1, 0, 0), srow_y=(1, 1, 0, 0)), "plane"),
        (set_to(sform_code=0, quatern_b=2), "quaternion"),
        (set_to(sform_code=9, pixdim=(1, 1, 0, 1, 1, 1, 1, 1)), "sizes are above 0"),
        (set_to(sform_code=0, qform_code=0, pixdim=(1, 1, 1, 0, 1, 1, 1, 1)), "sizes are above 0"),
        (set_to(sform_code=0, qform_code=0, pixdim=np.inf), "finite"),
    ):
        both_refuse(device, model, broken(tmp_path / "a.nii", change), IMAGE, words)


def test_odd_headers(device: Path, tmp_path: Path) -> None:
    """What nibabel puts right: unknown codes, no handedness, sizes that are negative or 0."""
    rule = Preprocessing("zscore", orientation="RAS", spacing=(1.0, 1.0))
    model = model_of(tmp_path, rule)

    def change(header: Any, **fields: Any) -> None:
        for name, value in fields.items():
            header[name] = value

    for fields in (
        {"sform_code": -1},
        {"sform_code": 77},
        {"sform_code": 0, "pixdim": [0, 0.8, 1.1, 2.5, 1, 1, 1, 1]},
        {"sform_code": 0, "pixdim": [1, -0.8, 1.1, 2.5, 1, 1, 1, 1]},
        {"pixdim": [1, -0.8, 0, 0, 1, 1, 1, 1]},
        {"sform_code": 0, "quatern_b": 0, "quatern_c": 1, "quatern_d": 0},
        {"xyzt_units": 1, "pixdim": [1, 1, 1, 1, 1, 1, 1, 1], "srow_x": (1e-3, 0, 0, 0)},
    ):
        image = broken(tmp_path / "a.nii", lambda header: change(header, **fields))  # noqa: B023
        ours, theirs = tmp_path / "ours.nii", tmp_path / "theirs.nii"
        predict(model, image, theirs, allow_small=True)
        done = call(device, model, image, "-o", ours, "--allow-small")
        assert done.returncode == 0, (fields, done.stderr)
        np.testing.assert_array_equal(read_image(ours).data, read_image(theirs).data, err_msg=str(fields))


def test_warnings_of_places(device: Path, tmp_path: Path) -> None:
    """Forms that disagree, or none at all: said behind the work by both programs, and by ours not otherwise."""
    model = write_model(tmp_path / "m.uqm", META)

    def shift(by: float) -> Callable[[Any], None]:
        def change(header: Any) -> None:
            header["qoffset_x"] += by

        return change

    def bend(header: Any) -> None:
        header["quatern_b"] = 2

    for change, words in ((shift(0.05), ""), (shift(0.4), "0.4 mm apart; the sform is used"), (bend, "cannot be used")):
        image = broken(tmp_path / "a.nii", change)
        warnings = predict(model, image, tmp_path / "theirs.nii")["warnings"]
        done = call(device, model, image, "-o", tmp_path / "ours.nii")
        assert done.returncode == 0 and bool(done.stderr) == bool(warnings) == bool(words), done.stderr
        assert words in done.stderr and done.stderr.count("\n") == bool(words)
    image = save_volume(tmp_path / "a.nii", STACK, turned("LPS"), "pixdim")
    done = call(device, model, image, "-o", tmp_path / "ours.nii")
    assert done.returncode == 0 and "not how they lie" in done.stderr
