"""What ``unetq-run`` refuses: one sentence, a documented exit code (that of ``unetq predict``), nothing left behind."""

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from device_program import call, network, picture, save_nifti, save_tiff_pages, write_model
from native_library import SOURCES
from PIL import Image

from unetq.errors import UnetqError
from unetq.export.modelfile import save
from unetq.export.program import ModelMeta
from unetq.predict import predict

STACK = picture()
USAGE, IMAGE, MODEL, UNSUPPORTED, OUTPUT, RUNTIME, MISMATCH = 2, 3, 4, 5, 6, 7, 8


def refused(command: list[object], code: int, words: str, folder: Path) -> str:
    """The command ends with this code and one sentence, and changes nothing in the folder."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 1 << 24}
    names = sorted(folder.rglob("*"))
    done = call(*command)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert sorted(folder.rglob("*")) == names, "files came or went"
    assert {path: path.read_bytes() for path in before} == before
    return done.stderr


def make_images(folder: Path) -> None:
    """Images that are refused, by name."""
    tifffile.imwrite(folder / "good.tif", STACK, photometric="minisblack")
    whole = (folder / "good.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.tif").touch()
    (folder / "text.nii").write_bytes(b"no image at all, only words " * 40)
    (folder / "folder.tif").mkdir()
    tifffile.imwrite(folder / "constant.tif", np.full((2, 20, 20), 77, np.uint8))
    tifffile.imwrite(folder / "small.tif", STACK[:, :5], photometric="minisblack")
    tifffile.imwrite(folder / "rgb.tif", np.zeros((16, 16, 3), np.uint8), photometric="rgb")
    four = np.arange(2 * 3 * 80, dtype=np.uint16).reshape(2, 3, 8, 10)
    tifffile.imwrite(folder / "four.tif", four, photometric="minisblack")
    with tifffile.TiffWriter(folder / "uneven.tif") as writer:
        writer.write(STACK[0], metadata=None)
        writer.write(STACK[0, 1:], metadata=None)
    Image.fromarray(STACK[0]).convert("RGB").save(folder / "rgb.png")
    Image.fromarray(STACK[0]).convert("P").save(folder / "table.png")
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("huge", 1e300)):
        data = STACK.astype(np.float64)
        data[1, 4, 5] = value
        np.save(folder / f"{name}.npy", data)
        tifffile.imwrite(folder / f"{name}.tif", data, photometric="minisblack")
        save_nifti(folder / f"{name}.nii.gz", np.moveaxis(data, 0, 2))
    np.save(folder / "line.npy", STACK[0, 0])
    np.save(folder / "four.npy", STACK[None])
    np.save(folder / "complex.npy", STACK.astype(np.complex64))
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "none.npy", STACK[:0])
    save_nifti(folder / "series.nii", np.zeros((8, 9, 2, 2, 2), np.int16) + np.arange(2, dtype=np.int16))
    rgb = np.zeros((8, 9, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), folder / "rgb.nii")
    save_nifti(folder / "scaled.nii", np.moveaxis(STACK, 0, 2).astype(np.int16), (1e38, 0))


BAD_IMAGES = {
    "missing.tif": "does not exist",
    "cut.tif": "truncated",
    "empty.tif": "0 bytes",
    "text.nii": "does not start like",
    "folder.tif": "is not a file",
    "constant.tif": "constant .every pixel is 77",
    "small.tif": r"5 x 47. is smaller than the model's stride .8 x 8",
    "rgb.tif": "3 values a pixel.*grey",
    "four.tif": "2 axes of slices",
    "uneven.tif": "differ in size",
    "rgb.png": "3 channels and grey",
    "table.png": "colour table and grey",
    "nan.npy": "slice 1 .row 4, column 5. that is NaN",
    "nan.tif": "slice 1 .row 4, column 5. that is NaN",
    "nan.nii.gz": "slice 1 .row 4, column 5. that is NaN",
    "infinite.npy": "row 4, column 5",
    "huge.tif": "beyond float32",
    "line.npy": "1 axes",
    "four.npy": "4 axes",
    "complex.npy": "type <c8",
    "pickled.npy": "type .O",
    "none.npy": "each axis needs 1 pixel",
    "series.nii": "one 2-D or 3-D volume",
    "rgb.nii": "grey",
    "scaled.nii": "beyond float32",
    "model.uqm": "extension is not known; use one of .tif",
}


def test_images(device: Path, model: Path, tmp_path: Path) -> None:
    make_images(tmp_path)
    for name, words in BAD_IMAGES.items():
        suffix = "".join(Path(name).suffixes) if ".nii" in name else ".tif"
        output = tmp_path / f"mask{suffix}"
        output.write_bytes(b"an older mask")
        sentence = refused([device, model, tmp_path / name, "-o", output], IMAGE, words, tmp_path)
        assert name in sentence
        with pytest.raises(UnetqError) as error:
            predict(model, tmp_path / name, output)
        assert error.value.exit_code == IMAGE, name
        assert output.read_bytes() == b"an older mask"


def test_outputs(device: Path, model: Path, tmp_path: Path) -> None:
    make_images(tmp_path)
    save_nifti(tmp_path / "v.nii", np.moveaxis(STACK, 0, 2))
    (tmp_path / "link.tif").symlink_to("good.tif")
    os.link(model, tmp_path / "model.tif")
    for image, output, words in [
        ("good.tif", "good.tif", "is the input image"),
        ("good.tif", "link.tif", "is the input image"),
        ("good.tif", "model.tif", "is the model file"),
        ("good.tif", "m.png", "1 slice and the image has 3"),
        ("good.tif", "m.nii", "position in space"),
        ("v.nii", "m.tif", "position in space.*nii.gz"),
        ("good.tif", "m.jpg", "not known"),
        ("good.tif", "nowhere/m.tif", "nowhere does not exist; create"),
        ("good.tif", "folder.tif", "is a folder"),
    ]:
        refused([device, model, tmp_path / image, "-o", tmp_path / output], USAGE, words, tmp_path)
        with pytest.raises(UnetqError) as error:
            predict(model, tmp_path / image, tmp_path / output)
        assert error.value.exit_code == USAGE, output


def test_models(device: Path, model: Path, tmp_path: Path) -> None:
    image, output = tmp_path / "a.npy", tmp_path / "m.npy"
    np.save(image, STACK)
    whole = model.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 8
    cases: list[tuple[str, Callable[[], object], int, str]] = [
        ("cut", lambda: model.write_bytes(whole[:-7]), MODEL, "model.uqm: .*cut or extended"),
        ("flipped", lambda: model.write_bytes(flipped), MODEL, "model.uqm: checksum"),
        ("empty", lambda: model.write_bytes(b""), MODEL, "model.uqm has 0 bytes"),
        ("version", lambda: model.write_bytes(whole[:8] + b"\x63" + whole[9:]), MODEL, "version 99"),
        ("missing", lambda: model.unlink(), MODEL, "model.uqm does not exist"),
        ("channels", lambda: write_model(model, channels=2), UNSUPPORTED, "takes 2 channels"),
        (
            "value",
            lambda: save(network(), model, ModelMeta("m", ("a", "b"), (0, 1000))),
            UNSUPPORTED,
            "'b' has the value 1000",
        ),
        ("fixed", lambda: write_model(model, fixed=(1, 32, 64)), IMAGE, "34 x 47 pixels.*exactly 32 x 64"),
    ]
    for name, make, code, words in cases:
        make()
        refused([device, model, image, "-o", output], code, words, tmp_path)
        if name != "missing":
            with pytest.raises(UnetqError) as error:
                predict(model, image, output)
            assert error.value.exit_code == code, name


def test_options(device: Path, model: Path, tmp_path: Path) -> None:
    image, output = tmp_path / "a.npy", tmp_path / "m.npy"
    np.save(image, STACK)
    for arguments, code, words in [
        ([], USAGE, "a model and an image"),
        ([model], USAGE, "a model and an image"),
        ([model, image], USAGE, "no output"),
        ([model, image, "-o"], USAGE, "-o: a value is missing"),
        ([model, image, image, "-o", output], USAGE, "third name"),
        ([model, image, "-o", output, "--threads", "0"], USAGE, "--threads 0: a number from 1"),
        ([model, image, "-o", output, "--threads", "-2"], USAGE, "--threads -2: a number from 1"),
        ([model, image, "-o", output, "--threads", "4294967297"], USAGE, "a number from 1"),
        ([model, image, "-o", output, "--threads=two"], USAGE, "--threads two"),
        ([model, image, "-o", output, "--quick"], USAGE, "--quick: no such option"),
        ([model, image, "-o", output, "--isa", "mmx"], RUNTIME, '"mmx" is not in this library'),
        (["--self-test", tmp_path, model], USAGE, "takes a folder and no model"),
    ]:
        refused([device, *arguments], code, words, tmp_path)
    help_text = call(device, "--help")
    assert help_text.returncode == 0 and not help_text.stderr
    for code in (0, USAGE, IMAGE, MODEL, UNSUPPORTED, OUTPUT, RUNTIME, MISMATCH):
        assert re.search(rf"^  {code}  ", help_text.stdout, re.MULTILINE), code
    readme = (SOURCES / "README.md").read_text()
    for code in (0, USAGE, IMAGE, MODEL, UNSUPPORTED, OUTPUT, RUNTIME, MISMATCH):
        assert re.search(rf"^\| {code} \|", readme, re.MULTILINE), code
    version = call(device, "--version")
    assert version.returncode == 0 and "scalar" in version.stdout


def test_small_images_with_leave(device: Path, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK[:, :5])
    done = call(device, model, tmp_path / "a.npy", "-o", tmp_path / "m.npy", "--allow-small")
    assert done.returncode == 0 and re.match(r"warning: the image .5 x 47. is smaller", done.stderr)


# ------------------------------------------------------------------------------------ memory, disk, signals


def test_images_too_large_for_memory(device: Path, model: Path, tmp_path: Path) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    side = int((total / 4) ** 0.5) + 4096
    header = np.lib.format.header_data_from_array_1_0(np.empty((0, 0), np.uint8)) | {"shape": (side, side)}
    with open(tmp_path / "large.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + side * side)  # a hole: no disk is used
    refused([device, model, tmp_path / "large.npy", "-o", tmp_path / "m.npy"], RUNTIME, "not enough memory", tmp_path)


def test_no_memory_for_the_network(device: Path, tmp_path: Path) -> None:
    if os.environ.get("UNETQ_RUN"):
        pytest.skip("sanitizers need a large address space")
    model = write_model(tmp_path / "model.uqm")
    np.save(tmp_path / "a.npy", picture(1, 1024, 1024))
    limit = 24 << 20
    done = call(
        device, model, tmp_path / "a.npy", "-o", tmp_path / "m.npy",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == RUNTIME and "not enough memory" in done.stderr


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".nii", ".nii.gz", ".png"])
def test_a_full_disk(
    device: Path, model: Path, tmp_path: Path, suffix: str, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    if suffix.startswith(".nii"):
        save_nifti(tmp_path / "a.nii", np.moveaxis(STACK, 0, 2))
    else:
        np.save(tmp_path / "a.npy", STACK[:1])
    image, output = next(tmp_path.glob("a.*")), tmp_path / f"m{suffix}"
    output.write_bytes(b"an older mask")
    with full_disk():
        refused([device, model, image, "-o", output], OUTPUT, "cannot write .*nothing was changed", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_without_permission(device: Path, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    (tmp_path / "locked").mkdir(mode=0o500)
    refused([device, model, tmp_path / "a.npy", "-o", tmp_path / "locked" / "m.npy"], OUTPUT, "cannot write", tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_leaves_nothing(
    device: Path, model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    image, output = tmp_path / "a.npy", tmp_path / "m.npy"
    np.save(image, np.tile(picture(4, 512, 512), (40, 1, 1)))
    output.write_bytes(b"an older mask")
    names = sorted(tmp_path.iterdir())
    process = subprocess.Popen(
        [device, model, image, "-o", output, "--isa", "scalar"], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and len(list(tmp_path.iterdir())) == len(names):
        time.sleep(0.005)  # until the mask is begun
    assert process.poll() is None, "it was done before it could be stopped"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert errors == f"error: stopped by signal {int(number)}; nothing was written.\n"
    assert sorted(tmp_path.iterdir()) == names and output.read_bytes() == b"an older mask"


def test_permissions_follow_the_umask(device: Path, model: Path, tmp_path: Path) -> None:
    save_tiff_pages(tmp_path / "a.tif", STACK)
    assert call(device, model, tmp_path / "a.tif", "-o", tmp_path / "m.tif", umask=0o027).returncode == 0
    assert (tmp_path / "m.tif").stat().st_mode & 0o777 == 0o640
