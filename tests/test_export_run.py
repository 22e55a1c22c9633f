"""From a run folder to a model file that knows its data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import small

from unetq.errors import CheckpointError, OutputError
from unetq.export.modelfile import load
from unetq.export.run import export
from unetq.runs import open_run
from unetq.train import train


@pytest.mark.parametrize("bits", [(4, 6), (8, 8), (1, 2), (32, 32)])
def test_the_file_computes_what_the_run_computes(tmp_path: Path, bits: tuple[int, int]) -> None:
    experiment = small(quant={"weight_bits": bits[0], "act_bits": bits[1]}, train={"float_steps": 4, "quant_steps": 4})
    run = train(experiment, tmp_path / "run")
    summary = export(run, tmp_path / "m.uqm")
    assert summary["bytes"] == (tmp_path / "m.uqm").stat().st_size and summary["stage"] == (
        "float" if bits == (32, 32) else "quant"
    )
    program, meta = load(tmp_path / "m.uqm")
    assert (
        meta.labels == ("membrane", "cell")
        and meta.label_values == (0, 255)
        and meta.preprocessing.normalize == "zscore"
    )
    assert meta.provenance["quant"]["weight_bits"] == bits[0] and meta.provenance["dataset"] == "phantom"
    x = np.random.default_rng(0).standard_normal((1, 1, 40, 56)).astype(np.float32)
    quantized, _ = open_run(run).quantized()
    with torch.no_grad():
        expected = quantized(torch.from_numpy(x)).numpy()
    if bits == (32, 32):
        np.testing.assert_allclose(program.run(x), expected, rtol=1e-4, atol=1e-4)
    else:
        assert np.array_equal(program.run(x), expected)
    export(run, tmp_path / "again.uqm")
    assert (tmp_path / "again.uqm").read_bytes() == (tmp_path / "m.uqm").read_bytes()


def test_a_network_that_pads_odd_sizes_still_accepts_many(tmp_path: Path) -> None:
    """BasicUNet pads where a size is odd; lowered at the crop of 40 pixels its program would take no other size."""
    experiment = small(network={"name": "basic_unet"}, train={"crop": 40, "float_steps": 2, "quant_steps": 2})
    experiment.network.options = {"features": [4, 4, 8, 8, 8, 4]}
    export(train(experiment, tmp_path / "run"), tmp_path / "m.uqm")
    program, _ = load(tmp_path / "m.uqm")
    assert program.fixed_size is None
    assert program.run(np.zeros((1, 1, 32, 64), np.float32)).shape == (1, 1, 32, 64)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        export(tmp_path, tmp_path / "m.uqm")
    run = train(small(quant={"weight_bits": 32, "act_bits": 32}, train={"float_steps": 2}), tmp_path / "run")
    with pytest.raises(OutputError, match="folder"):
        export(run, tmp_path)
    best = run / "float" / "best.safetensors"
    before = best.read_bytes()
    with pytest.raises(OutputError, match="of the run itself"):
        export(run, best)
    assert best.read_bytes() == before
    with pytest.raises(OutputError):
        export(run, tmp_path / "missing" / "m.uqm")
