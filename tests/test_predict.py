"""The device's whole way: image in, mask out in its geometry, or an error and nothing else.

Most tests run the NumPy executor behind the runtime's face, so that they need no compiled library and
can read the expected mask off the program; the last ones use the C++ runtime itself.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from toy_model import NumpyRuntime, network

from unetq.errors import ConfigError, DataError, DeviceError, ModelFileError, OutputError, UnetqError, UnsupportedError
from unetq.export.modelfile import load, save
from unetq.export.program import ModelMeta, Preprocessing
from unetq.predict import predict

F32 = np.float32
META = ModelMeta("toy", ("dark", "bright"), (10, 200), Preprocessing("zscore"))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``toy(meta=…, **network options)`` writes a model and puts the NumPy executor in the runtime's place."""
    monkeypatch.setattr("unetq.predict.Runtime", NumpyRuntime)

    def write(meta: ModelMeta = META, **options: Any) -> Path:
        path = tmp_path / "model.uqm"
        save(network(**options), path, meta)
        return path

    return write


def picture(slices: int = 3, height: int = 21, width: int = 34) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.integers(0, 255, (slices, height, width), dtype=np.uint8)


def expected(stack: np.ndarray, multiple: int = 8, values: tuple[int, int] = (10, 200)) -> np.ndarray:
    """Written down again, without the package: z-score, mirror at the end, 8-bit codes, box filter, sign."""
    masks = []
    for plane in stack.astype(float):
        x = (plane - plane.mean()) / max(plane.std(), 1e-6)
        extra = [-length % multiple for length in x.shape]
        for axis, (length, more) in enumerate(zip(x.shape, extra, strict=True)):
            widths = [(0, 0), (0, 0)]
            widths[axis] = (0, more)
            x = np.pad(x, widths, mode="reflect" if length > more else "edge")
        codes = np.pad(np.clip(np.rint(x.astype(F32) * 16), -128, 127), 1)
        rows, columns = x.shape
        box = sum(codes[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
        masks.append(np.where(box[: plane.shape[0], : plane.shape[1]] > 0, values[1], values[0]))
    return np.array(masks, np.uint8)


# --------------------------------------------------------------------------------------- what it does


@pytest.mark.parametrize("size", [(16, 24), (21, 34), (5, 40), (1, 1), (1, 9), (3, 2)])
def test_tiff_stack_of_any_size(toy: Callable[..., Path], tmp_path: Path, size: tuple[int, int]) -> None:
    stack = picture(3, *size)
    stack[0, 0, 0], stack[1, -1, -1] = 3, 250
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in stack:
            writer.write(page, contiguous=False, metadata=None)
    steps: list[tuple[int, int]] = []
    summary = predict(toy(), tmp_path / "a.tif", tmp_path / "m.tif", lambda *step: steps.append(step), allow_small=True)
    with tifffile.TiffFile(tmp_path / "m.tif") as written:
        assert len(written.pages) == 3 and written.pages[0].dtype == np.uint8
        masks = np.stack([page.asarray() for page in written.pages])
    assert (masks == expected(stack)).all()
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert bool(summary["warnings"]) == (min(size) < 8)
    assert summary["slices"] == 3 and summary["size"] == list(size) and summary["format"] == "tiff"
    assert summary["pixels"] == {"dark": int((masks == 10).sum()), "bright": int((masks == 200).sum())}
    json.dumps(summary)


def test_png(toy: Callable[..., Path], tmp_path: Path) -> None:
    stack = picture(1)
    Image.fromarray(stack[0]).save(tmp_path / "a.png")
    predict(toy(), tmp_path / "a.png", tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as written:
        assert written.mode == "L" and (np.asarray(written) == expected(stack)[0]).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_slices_lie_along_the_last_axis(toy: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    voxels = np.moveaxis(picture(4), 0, 2).astype(np.int16) - 90
    affine = np.array([[-0.5, 0, 0.1, 3], [0, 0.5, 0, 4], [0.1, 0, 5, -6], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 0)
    nibabel.save(image, tmp_path / f"a{suffix}")
    predict(toy(), tmp_path / f"a{suffix}", tmp_path / f"m{suffix}")
    before, after = nibabel.load(tmp_path / f"a{suffix}"), nibabel.load(tmp_path / f"m{suffix}")
    assert after.get_data_dtype() == np.uint8 and after.shape == voxels.shape
    assert (after.affine == before.affine).all() and int(after.header["sform_code"]) == 1
    assert (np.moveaxis(np.asarray(after.dataobj), 2, 0) == expected(np.moveaxis(voxels, 2, 0))).all()


def test_many_classes_and_their_values(toy: Callable[..., Path], tmp_path: Path) -> None:
    meta = ModelMeta("four", ("a", "b", "c", "d"), (0, 7, 8, 255), Preprocessing("window", low=0, high=255))
    stack = picture(1)
    np.save(tmp_path / "a.npy", stack[0])
    model = toy(meta, classes=4)
    summary = predict(model, tmp_path / "a.npy", tmp_path / "m.npy")
    mask = np.load(tmp_path / "m.npy")
    assert set(np.unique(mask)) <= {0, 7, 8, 255} and mask.shape == stack[0].shape
    assert mask[10, 10] == 8  # a window is positive: the doubled positive filter wins
    assert sum(summary["pixels"].values()) == mask.size


def test_a_volume_model_sees_the_volume_at_once(toy: Callable[..., Path], tmp_path: Path) -> None:
    stack = picture(5, 9, 12)
    np.save(tmp_path / "a.npy", stack)
    model = toy(rank=3, multiple=4)
    steps: list[tuple[int, int]] = []
    predict(model, tmp_path / "a.npy", tmp_path / "m.npy", lambda *step: steps.append(step))
    program, _ = load(model)
    x = (stack - stack.mean()) / stack.std()
    x = np.pad(x, [(0, 3), (0, 3), (0, 0)], mode="reflect").astype(F32)
    logits = program.run(x[None, None])[0, 0, :5, :9, :12]
    assert (np.load(tmp_path / "m.npy") == np.where(logits > 0, 200, 10)).all()
    assert steps == [(0, 1), (1, 1)]


def test_a_model_of_one_size_takes_smaller_images_only(toy: Callable[..., Path], tmp_path: Path) -> None:
    model = toy(multiple=8, fixed=(1, 24, 40))
    np.save(tmp_path / "a.npy", picture())
    np.save(tmp_path / "large.npy", picture(1, 25, 30))
    predict(model, tmp_path / "a.npy", tmp_path / "m.npy")
    assert np.load(tmp_path / "m.npy").shape == (3, 21, 34)
    with pytest.raises(DataError, match=r"25 x 30 pixels.*exactly 24 x 40"):
        predict(model, tmp_path / "large.npy", tmp_path / "n.npy")


def test_small_images_are_refused_unless_asked_for(toy: Callable[..., Path], tmp_path: Path) -> None:
    model = toy()
    np.save(tmp_path / "a.npy", picture(2, 7, 40))
    with pytest.raises(DataError, match=r"7 x 40. is smaller than the model's stride .8 x 8"):
        predict(model, tmp_path / "a.npy", tmp_path / "m.npy")
    assert not (tmp_path / "m.npy").exists()
    np.save(tmp_path / "a.npy", picture(2, 8, 8))
    assert predict(model, tmp_path / "a.npy", tmp_path / "m.npy")["warnings"] == []


def test_one_empty_slice_of_a_volume_is_no_error(toy: Callable[..., Path], tmp_path: Path) -> None:
    stack = picture()
    stack[1] = 0
    np.save(tmp_path / "a.npy", stack)
    predict(toy(), tmp_path / "a.npy", tmp_path / "m.npy")
    assert (np.load(tmp_path / "m.npy") == expected(stack)).all()


# ------------------------------------------------------------------------------------ what it refuses


def refused(error: type[UnetqError], words: str, model: Path, image: Path, output: Path) -> None:
    """``predict`` fails with this error and changes nothing in the output's folder."""
    before = {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()}
    with pytest.raises(error, match=words):
        predict(model, image, output)
    assert {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()} == before


def test_bad_images(toy: Callable[..., Path], tmp_path: Path) -> None:
    model, output = toy(), tmp_path / "mask.tif"
    output.write_bytes(b"an older mask")
    tifffile.imwrite(tmp_path / "good.tif", picture(), photometric="minisblack")
    whole = (tmp_path / "good.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.tif").touch()
    tifffile.imwrite(tmp_path / "constant.tif", np.full((2, 20, 20), 77, np.uint8))
    nan = picture().astype(F32)
    nan[1, 2, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", nan, photometric="minisblack")
    Image.new("RGB", (20, 20)).save(tmp_path / "rgb.png")
    for name, words in [
        ("missing.tif", "does not exist"),
        ("cut.tif", "truncated"),
        ("empty.tif", "0 bytes"),
        ("constant.tif", "constant .every pixel is 77"),
        ("nan.tif", "NaN"),
        ("rgb.png", "grey"),
        ("model.uqm", "extension .uqm is not known"),
    ]:
        refused(DataError, words, model, tmp_path / name, output)


def test_bad_outputs(toy: Callable[..., Path], tmp_path: Path) -> None:
    model = toy()
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="minisblack")
    for output, words in [
        ("a.tif", "is the input image"),
        ("m.png", "1 slice"),
        ("m.nii", "position in space"),
        ("m.jpg", "not known"),
        ("nowhere/m.tif", "does not exist"),
    ]:
        with pytest.raises(ConfigError, match=words):
            predict(model, tmp_path / "a.tif", tmp_path / output)
    (tmp_path / "model.tif").symlink_to(model)
    with pytest.raises(ConfigError, match="is the model file"):
        predict(model, tmp_path / "a.tif", tmp_path / "model.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "model.tif", "model.uqm"]


def test_models_that_do_not_fit(toy: Callable[..., Path], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="minisblack")
    refused(UnsupportedError, "2 channels", toy(channels=2), tmp_path / "a.tif", tmp_path / "m.tif")
    meta = ModelMeta("wide", ("a", "b"), (0, 1000))
    refused(UnsupportedError, "'b' has the value 1000", toy(meta), tmp_path / "a.tif", tmp_path / "m.tif")
    whole = toy().read_bytes()
    (tmp_path / "model.uqm").write_bytes(whole[:-7])
    refused(ModelFileError, "model.uqm", tmp_path / "model.uqm", tmp_path / "a.tif", tmp_path / "m.tif")


def test_a_failure_half_way_leaves_the_old_mask(
    toy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, output = toy(), tmp_path / "mask.tif"
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="minisblack")
    output.write_bytes(b"an older mask")
    calls = []

    def fails_late(self: NumpyRuntime, x: np.ndarray) -> np.ndarray:
        calls.append(x)
        if len(calls) == 3:
            raise DeviceError("the third slice")
        return self.program.run(x)

    monkeypatch.setattr(NumpyRuntime, "run", fails_late)
    refused(DeviceError, "third slice", model, tmp_path / "a.tif", output)
    assert len(calls) == 3


def test_a_full_disk(toy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, output = toy(), tmp_path / "mask.tif"
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="minisblack")
    output.write_bytes(b"an older mask")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused(OutputError, "No space left", model, tmp_path / "a.tif", output)


# ------------------------------------------------------------------------------- the C++ runtime itself


@pytest.mark.parametrize("isa", ["scalar", None])
def test_the_compiled_runtime_gives_the_same_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isa: str | None
) -> None:
    if isa is not None:
        monkeypatch.setenv("UNETQ_ISA", isa)
    save(network(), tmp_path / "model.uqm", META)
    stack = picture(2)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(stack, 0, 2), np.eye(4)), tmp_path / "a.nii.gz")
    summary = predict(tmp_path / "model.uqm", tmp_path / "a.tif", tmp_path / "m.tif")
    predict(tmp_path / "model.uqm", tmp_path / "a.nii.gz", tmp_path / "m.nii.gz", threads=3)
    assert (tifffile.imread(tmp_path / "m.tif") == expected(stack)).all()
    assert (np.moveaxis(np.asarray(nibabel.load(tmp_path / "m.nii.gz").dataobj), 2, 0) == expected(stack)).all()
    assert summary["arena_bytes"] > 0 and summary["isa"] == (isa or summary["isa"])


def test_the_compiled_runtime_takes_volumes(tmp_path: Path) -> None:
    save(network(rank=3, multiple=4), tmp_path / "model.uqm", META)
    np.save(tmp_path / "a.npy", picture(5, 9, 12))
    predict(tmp_path / "model.uqm", tmp_path / "a.npy", tmp_path / "m.npy")
    assert set(np.unique(np.load(tmp_path / "m.npy"))) == {10, 200}


def test_the_compiled_runtime_refuses_a_damaged_model(tmp_path: Path) -> None:
    save(network(), tmp_path / "model.uqm", META)
    whole = (tmp_path / "model.uqm").read_bytes()
    np.save(tmp_path / "a.npy", picture())
    for content in (whole[:-9], whole[:40], b"", bytes([*whole[:200], whole[200] ^ 1, *whole[201:]])):
        (tmp_path / "model.uqm").write_bytes(content)
        refused(ModelFileError, "model.uqm", tmp_path / "model.uqm", tmp_path / "a.npy", tmp_path / "m.npy")
    refused(ModelFileError, "none.uqm", tmp_path / "none.uqm", tmp_path / "a.npy", tmp_path / "m.npy")
