"""Every image of a folder to a mask in another: what fails is named, the rest goes on. Imports no torch."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, DataError, OutputError, UnetqError
from .imageio import DICOM_SUFFIX, SUFFIXES
from .predict import Progress, check_given, open_model, predict_with, read_for

KNOWN = (*SUFFIXES, DICOM_SUFFIX)


def is_folder_of_images(image_path: Path, out_path: Path) -> bool:
    """Whether ``predict`` means many images: a folder in, and an output that is no file's name.

    With a file's name for the output, a folder is one DICOM series.
    """
    if not image_path.is_dir():
        return False
    return out_path.is_dir() or not out_path.name.lower().endswith(KNOWN)


def images_in(folder: Path) -> list[tuple[Path, str]]:
    """Each image of a folder with the name of its mask, in the order of names.

    Images are the files of known kinds and the folders with DICOM files in or below them, a series each. A folder
    with nothing of that but DICOM files of its own is itself one series. Hidden ones are left out.

    Raises:
        DataError: no image.
    """
    found: list[tuple[Path, str]] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() and path.name.lower().endswith(tuple(SUFFIXES)):
            found.append((path, path.name))
        elif path.is_dir() and any(map(_is_dicom, path.rglob("*"))):
            found.append((path, f"{path.name}.nii.gz"))
    if not found and any(map(_is_dicom, folder.iterdir())):
        found.append((folder, f"{folder.resolve().name}.nii.gz"))
    if not found:
        raise DataError(
            f"folder {folder} holds no image: files of the kinds {', '.join(SUFFIXES)} or folders with a DICOM series "
            "are expected; check the path."
        )
    return found


def predict_folder(
    model_path: str | Path,
    folder: str | Path,
    out_folder: str | Path,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
    *,
    allow_small: bool = False,
    threads: int = 1,
    axes: str = "",
    spacing: Sequence[float] = (),
) -> dict[str, Any]:
    """Segment every image of ``folder``; each mask has its image's name, a DICOM series' that of its folder.

    Args:
        model_path: as ``unetq.predict.predict``, and so the options below.
        folder: see ``images_in``.
        out_folder: where the masks go; made if it is missing. Masks of the same names are replaced.
        progress: called for each image as by ``predict``.
        note: is called with a line for each image that is done or failed.
        allow_small, threads, axes, spacing: as ``predict``, for every image.

    Returns:
        A summary that JSON can hold: "images", a summary each, and "failed", image and reason each.

    Raises:
        DataError: no image in the folder. ConfigError: the output is the folder of the images, or ``axes`` or
        ``spacing`` cannot be. OutputError: the output folder cannot be made. ModelFileError: a damaged model.
    """
    model_path, folder, out_folder = Path(model_path), Path(folder), Path(out_folder)
    started = time.perf_counter()
    check_given(axes, spacing)
    if out_folder.is_dir() and out_folder.samefile(folder):
        raise ConfigError(f"output {out_folder} is the folder of the images: they would be overwritten; name another.")
    images = images_in(folder)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    names: dict[str, Path] = {}
    with open_model(model_path, threads) as model:
        _make(out_folder)
        for path, name in images:
            try:
                if names.setdefault(name, path) != path:
                    raise DataError(f"{path} and {names[name]} would have one mask, {name}; rename one.")
                image = read_for(path, out_folder / name, model_path, axes, spacing)
                summary = predict_with(model, image, out_folder / name, progress, allow_small=allow_small)
            except UnetqError as error:
                failed.append({"image": str(path), "reason": str(error)})
                line = f"failed: {path}: {error}"
            else:
                done.append(summary)
                line = "\n".join([f"{summary['output']}: {summary['seconds']:.2f} s", *_warnings(summary)])
            if note is not None:
                note(line)
    seconds = round(time.perf_counter() - started, 3)
    return {"model": str(model_path), "output": str(out_folder), "images": done, "failed": failed, "seconds": seconds}


def describe(summary: dict[str, Any]) -> str:
    """A summary for people: how many masks, and every failure with its reason."""
    failed = summary["failed"]
    head = f"{summary['output']}: {len(summary['images'])} masks in {summary['seconds']:.2f} s"
    return "\n".join(
        [f"{head}, {len(failed)} images failed", *(f"  {item['image']}: {item['reason']}" for item in failed)]
    )


def _warnings(summary: dict[str, Any]) -> list[str]:
    return [f"warning: {warning}" for warning in summary["warnings"]]


def _is_dicom(path: Path) -> bool:
    """By its name, or by what stands at byte 128; whether it can be used is its reader's matter."""
    if not path.is_file() or path.name.startswith("."):
        return False
    if path.name.lower().endswith(DICOM_SUFFIX):
        return True
    try:
        with open(path, "rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder}: {error.strerror or error}; make its parent or choose another place."
        ) from error
