"""`unetq ptq`: a run folder like any other, or nothing at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from commands import unetq
from small_runs import small

from unetq import checkpoint as checkpoints
from unetq.errors import CheckpointError, ConfigError, DataError, OutputError, UnetqError
from unetq.evaluate import evaluate
from unetq.export.modelfile import load
from unetq.export.program import Preprocessing
from unetq.export.run import export
from unetq.ptq.foreground import choose_crops, class_shares, pixel_weights, positions
from unetq.ptq.images import crops, read_samples
from unetq.ptq.network import Options
from unetq.ptq.run import ptq
from unetq.report import build
from unetq.runs import load_split, open_run
from unetq.samples import Sample
from unetq.train import train
from unetq.verify import verify

EIGHT = {"weight_bits": 8, "act_bits": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float run that has learned the phantom a little."""
    experiment = small(
        quant={"weight_bits": 32, "act_bits": 32}, train={"float_steps": 120, "lr": 5e-3, "validate_every": 120}
    )
    return train(experiment, tmp_path_factory.mktemp("float") / "run")


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ptq") / "new" / "w8a8"
    ptq(source, out, EIGHT, Options(), samples=4, command="unetq ptq …")
    return out


def test_dice_stays_within_a_point_of_float(made: Path) -> None:
    split = evaluate(made)["splits"]["validation"]
    found, exact = (split[key]["volume_dice"] for key in ("integer", "float_reference"))
    assert exact["cell"] > 0.6  # a network that learned nothing would prove nothing
    assert all(abs(found[label] - exact[label]) < 0.01 for label in exact)


def test_the_folder_is_a_run_like_any_other(source: Path, made: Path, tmp_path: Path) -> None:
    run = open_run(made)
    assert run.experiment.quant.weight_bits == 8 and run.experiment.data == open_run(source).experiment.data
    assert {p.name for p in made.iterdir()} >= {"config.yaml", "run.json", "ptq.json", "float", "quant"}
    facts = json.loads((made / "run.json").read_text())
    assert facts["command"] == "unetq ptq …" and facts["started"] <= facts["finished"] and facts["seed"] == 0
    assert facts["torch"] == torch.__version__ or facts["torch"] in torch.__version__
    record = json.loads((made / "ptq.json").read_text())
    assert record["options"]["range"] == "mse" and record["quant"]["act_bits"] == 8
    assert record["images"]["slices"] == 4 and record["images"]["validation_slices"] == 0
    summary = export(made, tmp_path / "m.uqm")
    assert summary["stage"] == "quant"
    _, meta = load(tmp_path / "m.uqm")
    assert meta.provenance["dataset"] == "phantom"
    assert verify(made, limit=1)["mismatches"] == 0
    evaluate(made)
    assert (build([made], tmp_path / "report")).exists()


def test_a_resumed_training_finds_nothing_left_to_do(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    before = (copy / "quant" / "best.safetensors").read_bytes()
    train(open_run(copy).experiment, copy, resume=True)
    assert (copy / "quant" / "best.safetensors").read_bytes() == before


def test_one_seed_gives_one_result_and_a_checkpoint_alone_the_same(source: Path, made: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copy(source / "float" / "best.safetensors", alone)
    ptq(alone, tmp_path / "again", EIGHT, Options(), samples=4)
    first, again = (checkpoints.load(p / "quant" / "best.safetensors").tensors for p in (made, tmp_path / "again"))
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


def test_all_steps_at_few_bits_on_own_images(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    samples = load_split(open_run(source).experiment, "test")
    for i, sample in enumerate(samples):
        tifffile.imwrite(folder / f"{i}.tif", sample.image[0])
    (folder / "notes.txt").write_text("no image")
    lines: list[str] = []
    options = Options("kl", "mse", 99.9, True, True, True, True, True, 20, 7)
    record = ptq(
        source,
        tmp_path / "out",
        {"weight_bits": 3, "act_bits": 4},
        options,
        images=[folder],
        samples=4,
        tell=lines.append,
    )
    assert {"equalize", "adaround", "bn_reestimate", "bias_correction"} <= set(record)
    assert record["images"]["origin"] == "files" and sum(record["images"]["predicted_shares"]) == pytest.approx(
        1, abs=1e-4
    )
    assert any("adaround" in line or "nearest" in line for line in lines)
    assert verify(tmp_path / "out", limit=1)["mismatches"] == 0


@pytest.mark.parametrize("method", ["paper", "lsq", "lsq+", "dorefa", "codebook"])
def test_other_methods(source: Path, tmp_path: Path, method: str) -> None:
    quant = {"weight_bits": 4, "act_bits": 4, "method": method}
    record = ptq(source, tmp_path / "out", quant, Options(range="percentile", bias_correction=True), samples=2)
    assert bool(record["calibrate"]["own_rule"]) == (method != "lsq")
    assert verify(tmp_path / "out", limit=1)["mismatches"] == 0


def test_adaround_on_learned_steps(source: Path, tmp_path: Path) -> None:
    quant = {"weight_bits": 4, "act_bits": 6, "method": "lsq"}
    record = ptq(source, tmp_path / "out", quant, Options(adaround=True, iterations=20), samples=2)
    assert all("error_chosen" in entry for entry in record["adaround"].values())
    assert verify(tmp_path / "out", limit=1)["mismatches"] == 0


def write(path: Path, values: np.ndarray) -> Path:
    tifffile.imwrite(path, values)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def broken(path: Path) -> Path:
    path.write_bytes(b"II*\0 cut off")
    return path


def holed(path: Path) -> Path:
    values = noise(48, 48).astype(np.float32)
    values[3, 4] = np.nan
    return write(path, values)


def empty(path: Path) -> Path:
    path.mkdir()
    return path


BAD_IMAGES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an empty folder": (lambda d: empty(d / "none"), "has 0 images"),
    "no such file": (lambda d: d / "none.tif", "does not exist"),
    "damaged": (lambda d: broken(d / "bad.tif"), r"bad\.tif"),
    "NaN": (lambda d: holed(d / "nan.tif"), r"nan\.tif.*NaN.*row 3, column 4"),
    "constant": (lambda d: write(d / "flat.tif", np.full((48, 48), 7, np.uint8)), r"flat\.tif is constant"),
    "too small": (lambda d: write(d / "tiny.tif", noise(1, 40)), r"tiny\.tif-000 is 1 x 40"),
    "not an image": (lambda d: Path(shutil.copy(__file__, d / "a.py")), "extension"),
    "colour": (lambda d: write(d / "rgb.tif", noise(48, 48, 3)), r"rgb\.tif"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_named_and_nothing_is_written(source: Path, tmp_path: Path, case: str) -> None:
    make, match = BAD_IMAGES[case]
    folder = tmp_path / "in"
    folder.mkdir()
    refuse(DataError, match, tmp_path, source, EIGHT, images=[make(folder)])


def refuse(kind: type[UnetqError], match: str, place: Path, source: Path, quant: dict[str, Any], **more: Any) -> None:
    out = place / "place" / "out"
    with pytest.raises(kind, match=match):
        ptq(source, out, quant, more.pop("options", Options()), **{"samples": 2, **more})
    assert not out.parent.exists()


def test_bad_sources_are_named(source: Path, made: Path, tmp_path: Path) -> None:
    refuse(CheckpointError, "not a run folder", tmp_path, tmp_path, EIGHT)
    refuse(CheckpointError, "missing", tmp_path, tmp_path / "none.safetensors", EIGHT)
    refuse(CheckpointError, "'quant' stage, not of a float one", tmp_path, made / "quant" / "best.safetensors", EIGHT)
    bare = tmp_path / "bare"
    shutil.copytree(made, bare)
    shutil.rmtree(bare / "float")
    refuse(CheckpointError, "has no float stage", tmp_path, bare, EIGHT)
    cut = tmp_path / "cut"
    shutil.copytree(source, cut)
    path = cut / "float" / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refuse(CheckpointError, "damaged", tmp_path, cut, EIGHT)


def test_bad_settings_are_named(source: Path, tmp_path: Path) -> None:
    refuse(ConfigError, "nothing is left to quantise", tmp_path, source, {"weight_bits": 32, "act_bits": 32})
    refuse(ConfigError, "weight_bits = 9", tmp_path, source, {"weight_bits": 9})
    refuse(ConfigError, "samples = 0", tmp_path, source, EIGHT, samples=0)
    with pytest.raises(ConfigError, match="range = 'max'"):
        Options(range="max")


def test_a_folder_in_use_is_left_alone(source: Path, made: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*")}
    with pytest.raises(OutputError, match="not empty"):
        ptq(source, made, EIGHT, Options(), samples=2)
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*")} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file"):
        ptq(source, tmp_path / "file", EIGHT, Options(), samples=2)
    with pytest.raises(OutputError, match="below a file"):
        ptq(source, tmp_path / "file" / "below" / "it", EIGHT, Options(), samples=2)


def test_an_interruption_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while computing, and stopped in the middle of writing."""

    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    for name in ("unetq.ptq.adaround.AdaRound._learn", "unetq.checkpoint.save"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(name, stop)
            ptq(source, tmp_path / "out", EIGHT, Options(adaround=True, iterations=2), samples=2)
        assert not list(tmp_path.iterdir())


def test_more_channels_than_a_file_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"takes 3 channels and .*a\.tif gives 1"):
        read_samples([write(tmp_path / "a.tif", noise(48, 48))], Preprocessing(), 3, 1)


def test_validation_slices_are_told(source: Path, tmp_path: Path) -> None:
    sample = load_split(open_run(source).experiment, "validation")[0]
    path = tmp_path / "v.npy"
    np.save(path, sample.image[0])
    lines: list[str] = []
    ptq(source, tmp_path / "out", EIGHT, Options(), images=[path], samples=2, tell=lines.append)
    assert json.loads((tmp_path / "out" / "ptq.json").read_text())["images"]["validation_slices"] == 1
    assert any("validation split" in line for line in lines)


def test_crops_are_decided_by_their_seed() -> None:

    rng = np.random.default_rng(0)
    samples = [Sample(f"s{i}", "v", rng.random((1, 40, 30), dtype=np.float32), None) for i in range(3)]
    first, again, other = (crops(samples, Preprocessing("zscore"), (32, 32), 5, seed) for seed in (0, 0, 1))
    assert len(first) == 5 and all(c.shape == (1, 32, 32) for c in first)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_foreground_counts_as_much_as_the_rest() -> None:
    maps = [np.zeros((20, 20), np.uint8) for _ in range(10)]
    maps[4][3:5, 6:9] = 1
    shares = class_shares(maps)
    weights = pixel_weights(maps, shares)
    assert np.mean(weights) == pytest.approx(1.0, abs=1e-5)
    assert sum(float(w[m == 1].sum()) for w, m in zip(weights, maps, strict=True)) == pytest.approx(2000, rel=1e-4)
    assert sum(4 in choose_crops(weights, 2, seed) for seed in range(200)) > 140  # 40 where all were alike
    generator = torch.Generator().manual_seed(0)
    drawn = positions((10, 3, 20, 20), torch.from_numpy(np.stack(weights))[:, None], 4000, generator)
    inside = maps[4].reshape(-1)[drawn.numpy() % 400].astype(bool) & (drawn.numpy() // 400 == 4)
    assert 0.45 < inside.mean() < 0.55
    coarse = positions((10, 3, 5, 5), torch.from_numpy(np.stack(weights))[:, None], 4000, generator).numpy()
    cells = {(y // 4) * 5 + x // 4 for y in (3, 4) for x in (6, 7, 8)}
    assert 0.4 < np.mean([place // 25 == 4 and place % 25 in cells for place in coarse]) < 0.65


def test_the_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path / f"{i}.tif", noise(48, 48)) for i in range(2)]
    options: list[object] = ["--weight-bits", 4, "--act-bits", 6, "--samples", 2, "--equalize"]
    code, out, err = unetq(
        capsys, "ptq", source, *options, "--images", *files, "-o", tmp_path / "out", "--set", "quant.last_bits=6"
    )
    assert code == 0 and "W4A6, fixed" in out and "equalize left out" in out and "calibrating on 2 crops of 2" in err
    assert open_run(tmp_path / "out").experiment.quant.last_bits == 6
    assert json.loads((tmp_path / "out" / "run.json").read_text())["command"].startswith("unetq ptq")
    code, out, err = unetq(capsys, "ptq", source, "--images", tmp_path / "none.tif", "-o", tmp_path / "other")
    assert (
        (code, out) == (3, "") and err.count("error: ") == 1 and "none.tif" in err and not (tmp_path / "other").exists()
    )
    code, _, err = unetq(capsys, "ptq", source, "--range", "max", "-o", tmp_path / "other")
    assert code == 2 and "minmax" in err
    code, _, err = unetq(capsys, "ptq", source, "--set", "train.lr=1", "-o", tmp_path / "other")
    assert code == 2 and "section quant" in err
