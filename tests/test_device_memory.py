"""The peak memory of ``unetq-run``, as the system counts it: on the paper's network, and where a volume is held."""

from pathlib import Path

import numpy as np
import pytest
from device_program import META, call, picture, program
from paper_program import paper_program
from placed_volumes import model_of, save_volume, turned

from unetq.export.modelfile import save
from unetq.export.program import Preprocessing

MOST = {208: 12_000_000, 512: 50_000_000}  # bytes
BESIDE = 4_000_000  # the most beside the arena and the slice: the program, its buffers, the weights in use


@pytest.mark.parametrize("side", MOST)
def test_peak_memory(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, side: int) -> None:
    device = program(tmp_path_factory)
    save(paper_program(), tmp_path / "paper.uqm", META)
    image = np.random.default_rng(1).integers(0, 255, (1, side, side), dtype=np.uint8)
    np.save(tmp_path / "a.npy", image)
    done = call(device, tmp_path / "paper.uqm", tmp_path / "a.npy", "-o", tmp_path / "m.npy", "--memory")
    assert done.returncode == 0, done.stderr
    arena, peak = (int(word) for word in done.stdout.splitlines()[-1].split() if word.isdigit())
    buffers = 2 * 4 * image.size  # input and logits, float32
    assert peak <= MOST[side], f"{side}²: peak {peak}, arena {arena}"
    assert peak - arena - buffers <= BESIDE


@pytest.mark.parametrize(
    ("rank", "rule"),
    [
        (2, Preprocessing("zscore", over="volume", orientation="SAR", spacing=(1.0, 1.0))),
        (3, Preprocessing("zscore", orientation="PIL", spacing=(1.5, 0.9, 0.8), window=(16, 64, 64))),
    ],
)
def test_a_held_volume_is_planned(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, rank: int, rule: Preprocessing
) -> None:
    """What is said to be needed beside the arena is what is used, to the size of the program itself."""
    image = save_volume(tmp_path / "a.nii", np.tile(picture(8, 100, 120), (8, 1, 1)), turned("RAS", (1.0, 1.1, 1.2)))
    model = model_of(tmp_path, rule, rank, classes=3)
    done = call(program(tmp_path_factory), model, image, "-o", tmp_path / "m.nii", "--memory")
    assert done.returncode == 0, done.stderr
    arena, peak, beside = (
        int(word) for line in done.stdout.splitlines()[1:] for word in line.split() if word.isdigit()
    )
    call_pixels = 16 * 64 * 64 if rank == 3 else 128 * 160
    assert beside >= 4 * 64 * 100 * 120
    assert peak <= arena + beside + 4 * 4 * call_pixels + BESIDE
