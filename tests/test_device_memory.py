"""The peak memory of ``unetq-run``, as the system counts it, on the paper's network."""

from pathlib import Path

import numpy as np
import pytest
from device_program import META, call, program
from paper_program import paper_program

from unetq.export.modelfile import save

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
