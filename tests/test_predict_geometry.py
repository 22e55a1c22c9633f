"""A mask lies where its image lies: on turned, resampled and oblique copies, checked by SimpleITK and by hand.

The filters are lopsided, so that a network which saw an image turned wrongly would give another mask.
"""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel import orientations as oracle
from numpy.typing import NDArray
from scipy import ndimage
from test_geometry import affine_for
from toy_model import NumpyRuntime, network

from unetq.errors import ConfigError, DataError, UnsupportedError
from unetq.export.modelfile import save
from unetq.export.program import ModelMeta, Preprocessing
from unetq.predict import predict
from unetq.preprocess import neighbours
from unetq.segment import frame, segment

SIZES = (1.0, 1.2, 2.5)
LOPSIDED = np.array([[3, 2, 0], [1, 0, -1], [-3, 0, -2]], np.int8)


def kernel(rank: int, channels: int = 1) -> NDArray[np.int8]:
    """(1, channels, kd, 3, 3): every channel and depth its own share of a filter that no turn leaves as it is."""
    planes = [np.roll(LOPSIDED, step, axis=0) for step in range(channels * (3 if rank == 3 else 1))]
    return np.stack(planes).reshape(1, channels, -1, 3, 3)


def scene(slices: int = 7, rows: int = 20, columns: int = 26) -> NDArray[np.int16]:
    """Smooth blobs, (slices, rows, columns)."""
    noise = np.random.default_rng(8).normal(size=(slices, rows, columns))
    smooth = ndimage.gaussian_filter(noise, (1, 2, 2))
    return np.asarray(smooth / smooth.std() * 100, dtype=np.int16)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``model(preprocessing, **network options)`` is a model's file; the NumPy executor runs it."""
    monkeypatch.setattr("unetq.predict.Runtime", NumpyRuntime)

    def write(rule: Preprocessing, **options: Any) -> Path:
        path = tmp_path / "model.uqm"
        meta = ModelMeta("toy", ("dark", "bright"), (0, 7), rule)
        save(network(**{"multiple": 4, **options}), path, meta)
        return path

    return write


def store(path: Path, stack: NDArray[Any], affine: NDArray[Any]) -> Path:
    image = nibabel.Nifti1Image(np.moveaxis(stack, 0, 2), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nibabel.save(image, path)
    return path


def turned(path: Path, axes: str, name: str) -> Path:
    """A copy of the same patient, stored along other axes, made by nibabel."""
    image = nibabel.load(path)
    change = oracle.ornt_transform(oracle.io_orientation(image.affine), oracle.axcodes2ornt(axes))
    copy = image.as_reoriented(change)
    copy.set_qform(copy.affine, 1)
    nibabel.save(copy, path.with_name(name))
    return path.with_name(name)


def voxels(path: Path) -> NDArray[Any]:
    return np.asarray(nibabel.load(path).dataobj)


def dice(one: NDArray[Any], two: NDArray[Any]) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


def assert_same_place(image: Path, mask: Path) -> None:
    """SimpleITK finds mask and image on one grid."""
    sitk = pytest.importorskip("SimpleITK")
    one, two = sitk.ReadImage(str(image)), sitk.ReadImage(str(mask))
    assert one.GetSize() == two.GetSize() and two.GetPixelID() == sitk.sitkUInt8
    for name in ("GetOrigin", "GetDirection", "GetSpacing"):
        np.testing.assert_allclose(getattr(one, name)(), getattr(two, name)(), atol=1e-5)


# ------------------------------------------------------------------------------------- permuted and flipped


@pytest.mark.parametrize("axes", ["LAS", "RPI", "ALS", "SRA", "PIR"])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("spacing", [False, True])
def test_a_turned_copy_gets_the_turned_mask(
    model: Callable[..., Path], tmp_path: Path, axes: str, rank: int, spacing: bool
) -> None:
    rule = Preprocessing("zscore", orientation="PLS", spacing=(1.5,) * rank if spacing else ())
    file = model(rule, rank=rank, kernel=kernel(rank))
    straight = store(tmp_path / "a.nii.gz", scene(), affine_for("RAS", SIZES))
    copy = turned(straight, axes, "b.nii.gz")
    assert voxels(copy).shape != voxels(straight).shape or not (voxels(copy) == voxels(straight)).all()
    predict(file, straight, tmp_path / "ma.nii.gz")
    summary = predict(file, copy, tmp_path / "mb.nii.gz")
    assert summary["axes"] == axes
    back = turned(tmp_path / "mb.nii.gz", "RAS", "back.nii.gz")
    assert set(np.unique(voxels(back))) == {0, 7}
    np.testing.assert_array_equal(voxels(back), voxels(tmp_path / "ma.nii.gz"))
    np.testing.assert_allclose(nibabel.load(back).affine, nibabel.load(straight).affine, atol=1e-5)
    assert_same_place(copy, tmp_path / "mb.nii.gz")


def test_the_filters_notice_a_turn(model: Callable[..., Path], tmp_path: Path) -> None:
    """Without an orientation in the model, a flipped copy gets another mask: the test above can fail."""
    file = model(Preprocessing("zscore"), kernel=kernel(2))
    straight = store(tmp_path / "a.nii.gz", scene(), affine_for("RAS", SIZES))
    predict(file, straight, tmp_path / "ma.nii.gz")
    predict(file, turned(straight, "LAS", "b.nii.gz"), tmp_path / "mb.nii.gz")
    back = turned(tmp_path / "mb.nii.gz", "RAS", "back.nii.gz")
    assert (voxels(back) != voxels(tmp_path / "ma.nii.gz")).mean() > 0.05


@pytest.mark.parametrize("rank", [2, 3])
def test_an_oblique_copy_gets_the_same_mask(model: Callable[..., Path], tmp_path: Path, rank: int) -> None:
    file = model(Preprocessing("zscore", orientation="LPS", spacing=(1.5,) * rank), rank=rank, kernel=kernel(rank))
    for name, tilt in (("straight", 0.0), ("oblique", 25.0)):
        store(tmp_path / f"{name}.nii.gz", scene(), affine_for("RAS", SIZES, tilt))
        predict(file, tmp_path / f"{name}.nii.gz", tmp_path / f"m-{name}.nii.gz")
        assert_same_place(tmp_path / f"{name}.nii.gz", tmp_path / f"m-{name}.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "m-oblique.nii.gz"), voxels(tmp_path / "m-straight.nii.gz"))


# ------------------------------------------------------------------------------------------------ resampled


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("sizes", [(0.7, 0.9, 2.5), (1.6, 1.0, 2.0)])
def test_a_copy_of_other_spacing_gets_the_mask_in_its_own_space(
    model: Callable[..., Path], tmp_path: Path, rank: int, sizes: tuple[float, float, float]
) -> None:
    """The copy is made and the masks are brought together by SimpleITK; Dice is 0.9 or more."""
    sitk = pytest.importorskip("SimpleITK")
    sizes = (*sizes[:2], SIZES[2]) if rank == 2 else sizes
    rule = Preprocessing("window", -200, 200, orientation="RAS", spacing=(2.5, 1.2, 1.2)[3 - rank :])
    box = np.ones((1, 1, 1, 3, 3) if rank == 2 else (1, 1, 3, 3, 3), np.int8)
    count = box.size
    file = model(rule, rank=rank, kernel=box, fraction=7, offset=-count / 2)  # bright where the mean is above 0
    source = store(tmp_path / "a.nii.gz", scene(12, 40, 44), affine_for("LPS", SIZES))
    image = sitk.ReadImage(str(source))
    grid = sitk.Image([round(n * s / t) for n, s, t in zip(image.GetSize(), SIZES, sizes, strict=True)], sitk.sitkInt16)
    grid.SetSpacing(sizes)
    grid.SetDirection(image.GetDirection())
    shift = [(t - s) / 2 for s, t in zip(SIZES, sizes, strict=True)]  # the field of view stays
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint([d / s for d, s in zip(shift, SIZES, strict=True)]))
    outside = -100
    sitk.WriteImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, outside), str(tmp_path / "b.nii.gz"))
    predict(file, source, tmp_path / "ma.nii.gz")
    summary = predict(file, tmp_path / "b.nii.gz", tmp_path / "mb.nii.gz")
    assert summary["network_size"] != summary["size"][2 - rank :]
    assert_same_place(tmp_path / "b.nii.gz", tmp_path / "mb.nii.gz")
    mask, other = (sitk.ReadImage(str(tmp_path / name)) for name in ("ma.nii.gz", "mb.nii.gz"))
    onto = sitk.GetArrayFromImage(sitk.Resample(mask, other, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    assert dice(onto > 0, sitk.GetArrayFromImage(other) > 0) >= 0.9


def test_spacing_changes_what_is_seen(model: Callable[..., Path], tmp_path: Path) -> None:
    summary = predict(
        model(Preprocessing("zscore", spacing=(2.0, 0.6)), kernel=kernel(2)),
        store(tmp_path / "a.nii.gz", scene(7, 20, 26), affine_for("RAS", SIZES)),
        tmp_path / "m.nii.gz",
    )
    assert summary["network_size"] == [10, 52] and voxels(tmp_path / "m.nii.gz").shape == (20, 26, 7)
    assert summary["spacing_mm"] == pytest.approx([2.5, 1.0, 1.2])
    bright = summary["pixels"]["bright"]
    assert summary["millilitres"]["bright"] == pytest.approx(bright * 1.0 * 1.2 * 2.5 / 1000, abs=1e-3)


# ------------------------------------------------------------------------------------- neighbours and windows


def test_neighbour_slices_are_channels(model: Callable[..., Path], tmp_path: Path) -> None:
    file = model(Preprocessing("window", -200, 200, context=1), channels=3, kernel=kernel(2, 3))
    stack = scene()
    np.save(tmp_path / "a.npy", stack)
    predict(file, tmp_path / "a.npy", tmp_path / "m.npy")
    program = network(multiple=4, channels=3, kernel=kernel(2, 3))
    x = np.clip((stack.astype(np.float64) + 200) / 400, 0, 1).astype(np.float32)
    x = np.pad(x, [(0, 0), (0, 0), (0, -x.shape[2] % 4)], mode="reflect")
    for index in range(len(stack)):
        chosen = neighbours(index, len(stack), 1)
        logits = program.run(x[chosen][None])[0, 0, : stack.shape[1], : stack.shape[2]]
        np.testing.assert_array_equal(np.load(tmp_path / "m.npy")[index], np.where(logits > 0, 7, 0))
    assert chosen == [5, 6, 6]


@pytest.mark.parametrize("rank", [2, 3])
def test_windows_of_a_network_without_surroundings_change_nothing(
    model: Callable[..., Path], tmp_path: Path, rank: int
) -> None:
    point = np.ones((1, 1, 1, 1, 1), np.int8)
    source = store(tmp_path / "a.nii.gz", scene(), affine_for("RAS", SIZES))
    steps: list[tuple[int, int]] = []
    masks = []
    for window in ((), (4, 8, 8)[3 - rank :]):
        file = model(Preprocessing("zscore", window=window, over="volume"), rank=rank, kernel=point)
        predict(file, source, tmp_path / "m.nii.gz", lambda *step: steps.append(step))
        masks.append(voxels(tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(*masks)
    total = 7 if rank == 2 else 2 * 3 * 4  # windows: slices 4+3 of 7, rows 8 of 20, columns 8 of 26, a quarter shared
    assert steps[-1] == (total, total) and steps[-total - 1] == (0, total)


def test_a_slice_is_in_memory_at_a_time(model: Callable[..., Path]) -> None:
    file = model(Preprocessing("zscore", orientation="PIR", spacing=(0.9, 0.9)), kernel=kernel(2))
    stack = np.random.default_rng(0).integers(0, 200, (1, 96, 90, 80), dtype=np.uint8)
    runtime = NumpyRuntime(file)
    laid = frame(runtime, stack.shape, "RAS", (1.0, 1.0, 1.0))
    segment(
        runtime, stack[:, :2], frame(runtime, stack[:, :2].shape, "RAS", (1.0, 1.0, 1.0)), np.arange(2, dtype=np.uint8)
    )
    tracemalloc.start()
    try:
        segment(runtime, stack, laid, np.array([0, 7], np.uint8))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * stack.size * 4, f"{peak} bytes for {stack.size} voxels"  # a float32 copy would be 4 bytes each


# ----------------------------------------------------------------------------------------- geometry told by hand


def test_an_image_without_geometry(model: Callable[..., Path], tmp_path: Path) -> None:
    file = model(Preprocessing("zscore", orientation="PLS"), kernel=kernel(2))
    np.save(tmp_path / "a.npy", scene())
    store(tmp_path / "a.nii.gz", scene(), affine_for("RAS", SIZES))
    with pytest.raises(DataError, match=r"a\.npy: the model wants images turned to PLS.*--axes"):
        predict(file, tmp_path / "a.npy", tmp_path / "m.npy")
    predict(file, tmp_path / "a.npy", tmp_path / "m.npy", axes="RAS")
    predict(file, tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), np.moveaxis(voxels(tmp_path / "m.nii.gz"), 2, 0))
    file = model(Preprocessing("zscore", spacing=(2.0, 2.0)), kernel=kernel(2))
    with pytest.raises(DataError, match=r"pixels of 2 x 2 mm.*--spacing"):
        predict(file, tmp_path / "a.npy", tmp_path / "m.npy")
    assert predict(file, tmp_path / "a.npy", tmp_path / "m.npy", spacing=(3, 1, 1))["network_size"] == [10, 13]


def test_geometry_that_cannot_be_or_contradicts_the_image(model: Callable[..., Path], tmp_path: Path) -> None:
    file = model(Preprocessing("zscore", orientation="PLS"), kernel=kernel(2))
    source = store(tmp_path / "a.nii.gz", scene(), affine_for("RAS", SIZES))
    for given, words in [
        ({"axes": "RRS"}, "three letters"),
        ({"axes": "LAS"}, "says RAS"),
        ({"spacing": (1.0, 1.0)}, "three lengths"),
        ({"spacing": (1.0, 1.0, -1.0)}, "three lengths"),
        ({"spacing": (3.0, 1.0, 1.2)}, "says 2.5, 1, 1.2"),
    ]:
        with pytest.raises(ConfigError, match=words):
            predict(file, source, tmp_path / "m.nii.gz", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "m.nii.gz").exists()
    predict(file, source, tmp_path / "m.nii.gz", axes="RAS", spacing=(2.5, 1.0, 1.2))


def test_an_image_too_small_once_resampled(model: Callable[..., Path], tmp_path: Path) -> None:
    file = model(Preprocessing("zscore", spacing=(8.0, 8.0)), kernel=kernel(2))
    source = store(tmp_path / "a.nii.gz", scene(), affine_for("RAS", SIZES))
    with pytest.raises(DataError, match=r"20 x 26. once resampled to 3 x 4 is smaller than the model's stride .4 x 4"):
        predict(file, source, tmp_path / "m.nii.gz")


def test_channels_of_a_nifti_file(model: Callable[..., Path], tmp_path: Path) -> None:
    file = model(Preprocessing("zscore", orientation="PLS"), channels=2, kernel=kernel(2, 2))
    two = np.stack([scene(), scene()[::-1]], axis=-1)  # k, i, j, channel
    nibabel.save(nibabel.Nifti1Image(two.transpose(1, 2, 0, 3), affine_for("RAS")), tmp_path / "a.nii.gz")
    predict(file, tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")
    assert voxels(tmp_path / "m.nii.gz").shape == (20, 26, 7)
    with pytest.raises(UnsupportedError, match=r"takes 2 channels and the image gives 1"):
        predict(file, store(tmp_path / "b.nii.gz", scene(), affine_for("RAS")), tmp_path / "n.nii.gz")


def test_warnings_of_the_header_are_in_the_summary(model: Callable[..., Path], tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.moveaxis(scene(), 0, 2), affine_for("RAS"))
    image.set_sform(affine_for("RAS"), 1)
    image.set_qform(affine_for("LAS"), 1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    summary = predict(model(Preprocessing("zscore"), kernel=kernel(2)), tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")
    assert "the sform is used" in summary["warnings"][0]
    after = nibabel.load(tmp_path / "m.nii.gz").header
    assert (int(after["sform_code"]), int(after["qform_code"])) == (1, 1)
    np.testing.assert_allclose(after.get_qform(), affine_for("LAS"), atol=1e-5)
