"""Whatever is wrong with the input: one sentence with value, rule and remedy, an exit code, and nothing lost."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import unetq
from small_runs import small

from unetq.data import resolve_dataset
from unetq.export.run import export
from unetq.train import train

FullDisk = Callable[[], AbstractContextManager[None]]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(train={"float_steps": 2, "quant_steps": 2}), tmp_path_factory.mktemp("bad") / "run")


@pytest.fixture(scope="module")
def model(run: Path) -> Path:
    path = run.parent / "model.uqm"
    export(run, path)
    return path


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """24 labelled slices in the official layout of the EM data."""
    options = {"size": 48, "train": 20, "validation": 4}
    spec = resolve_dataset("phantom", options)
    samples = [sample for split in ("train", "validation") for sample in spec.load(None, split, options)]
    folder = tmp_path / "em"
    folder.mkdir()
    tifffile.imwrite(folder / "train-volume.tif", np.stack([s.image[0] for s in samples]).astype(np.uint8))
    tifffile.imwrite(folder / "train-labels.tif", np.stack([s.label * np.uint8(255) for s in samples]))
    return folder


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


def images(folder: Path) -> np.ndarray:
    return tifffile.imread(folder / "train-volume.tif")


def labels(folder: Path) -> np.ndarray:
    return tifffile.imread(folder / "train-labels.tif")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def spoil_labels(folder: Path) -> None:
    values = labels(folder)
    values[3, 5, 5] = 128
    tifffile.imwrite(folder / "train-labels.tif", values)


def spoil_pixels(folder: Path) -> None:
    values = images(folder).astype(np.float32)
    values[2, 0, 0] = np.nan
    tifffile.imwrite(folder / "train-volume.tif", values)


def flatten_slice(folder: Path) -> None:
    values = images(folder)
    values[1] = 7
    tifffile.imwrite(folder / "train-volume.tif", values)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "train-labels.tif").unlink(), "train-labels.tif"),
        (lambda f: cut(f / "train-volume.tif"), "train-volume.tif"),
        (lambda f: tifffile.imwrite(f / "train-labels.tif", labels(f)[:, :40]), "40"),
        (lambda f: tifffile.imwrite(f / "train-labels.tif", labels(f)[:23]), "23"),
        (spoil_labels, "128"),
        (spoil_pixels, "NaN"),
        (flatten_slice, "constant"),
    ],
    ids=["missing", "truncated", "other shape", "other count", "other values", "NaN", "constant"],
)
def test_training_data(spoil, words: str, stacks: Path, capsys: Capture, tmp_path: Path) -> None:
    spoil(stacks)
    out = tmp_path / "run"
    code, _, err = unetq(capsys, "train", "em", "--data", stacks, "--out", out, "--set", "train.crop=32")
    assert code == 3 and err.startswith("error: ") and words in err
    assert not out.exists()


def test_an_image_smaller_than_the_networks_stride(stacks: Path, capsys: Capture, tmp_path: Path) -> None:
    for name in ("train-volume.tif", "train-labels.tif"):
        values = tifffile.imread(stacks / name)
        tifffile.imwrite(stacks / name, np.ascontiguousarray(values[:, 20:26, 20:26]))
    options = ("--set", "train.crop=8")
    code, _, err = unetq(capsys, "train", "em", "--data", stacks, "--out", tmp_path / "run", *options)
    assert code == 3 and "6 x 6" in err and "8 x 8" in err


def test_a_split_that_is_not_there(stacks: Path, run: Path, capsys: Capture) -> None:
    code, _, err = unetq(capsys, "evaluate", run, "--split", "tset")
    assert code == 2 and "'test'" in err
    spec = resolve_dataset("em", {})
    with pytest.raises(Exception, match="24"):
        spec.load(stacks, "test", {})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "image.tif"),
        (lambda p: p.write_bytes(b""), "empty"),
        (
            lambda p: (tifffile.imwrite(p, noise(40, 40)), cut(p)),
            "image.tif",
        ),
        (lambda p: tifffile.imwrite(p, np.full((40, 40), np.nan, np.float32)), "NaN"),
        (lambda p: tifffile.imwrite(p, np.full((40, 40), 3, np.uint8)), "constant"),
        (
            lambda p: tifffile.imwrite(p, np.array([[1]], np.uint8).repeat(40, 1) * np.arange(40, dtype=np.uint8)),
            "smaller",
        ),
    ],
    ids=["missing", "zero bytes", "truncated", "NaN", "constant", "smaller than the stride"],
)
def test_images_to_predict(make, words: str, model: Path, capsys: Capture, tmp_path: Path) -> None:
    make(tmp_path / "image.tif")
    old = tmp_path / "mask.tif"
    old.write_bytes(b"an older mask")
    code, _, err = unetq(capsys, "predict", model, tmp_path / "image.tif", "-o", old)
    assert code == 3 and err.startswith("error: ") and words in err
    assert old.read_bytes() == b"an older mask"


def test_damaged_models(model: Path, capsys: Capture, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", noise(40, 40))
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 4
    damaged = tmp_path / "damaged.uqm"
    for content in (bytes(data), model.read_bytes()[:500], b"", b"not a model"):
        damaged.write_bytes(content)
        for command in (
            ["inspect", damaged],
            ["predict", damaged, tmp_path / "image.tif", "-o", tmp_path / "mask.tif"],
        ):
            code, out, err = unetq(capsys, *command)
            assert code == 4 and out == "" and "damaged.uqm" in err
    assert not (tmp_path / "mask.tif").exists()


def test_a_full_disk(run: Path, model: Path, full_disk: FullDisk, capsys: Capture, tmp_path: Path) -> None:
    image, mask, packed, page = (tmp_path / name for name in ("image.tif", "mask.tif", "m.uqm", "report"))
    tifffile.imwrite(image, noise(64, 64))
    code, _, err = unetq(capsys, "evaluate", run)
    assert code == 0, err
    for old in (mask, packed):
        old.write_bytes(b"old")
    for command in (
        ["export", run, "-o", packed],
        ["predict", model, image, "-o", mask],
        ["report", run, "-o", page],
    ):
        with full_disk():
            code, _, err = unetq(capsys, *command)
        assert code == 6 and "nothing was changed" in err, command
    assert mask.read_bytes() == packed.read_bytes() == b"old"
    assert not page.exists() or list(page.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir() if p != page) == ["image.tif", "m.uqm", "mask.tif"]
