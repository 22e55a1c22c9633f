"""What training and evaluation measure is what prediction writes: voxel for voxel, whatever the preprocessing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_geometry import affine_for
from test_predict_geometry import kernel, scene, store, voxels
from torch import Tensor
from toy_model import NumpyRuntime, network

from unetq.data import DatasetSpec, resolve_dataset
from unetq.export.modelfile import save
from unetq.export.program import ModelMeta, Preprocessing, Program
from unetq.geometry import unorient
from unetq.predict import predict
from unetq.scoring import Scorer

OPTIONS: dict[str, Any] = {"fractions": [1, 0, 0]}
RULES = [
    (2, Preprocessing("zscore")),
    (2, Preprocessing("zscore", over="volume", orientation="PLS", spacing=(1.3, 0.9))),
    (2, Preprocessing("window", -150, 150, context=1, orientation="SRA", window=(8, 12), overlap=0.5)),
    (2, Preprocessing("zscore", over="volume", context=2, spacing=(0.0, 1.7), window=(12, 8))),
    (3, Preprocessing("zscore", orientation="RAS", spacing=(1.5, 1.5, 1.5))),
    (3, Preprocessing("window", -150, 150, orientation="ASL", spacing=(0.0, 2.0, 0.0), window=(8, 8, 4), overlap=0.3)),
]


def evaluated(spec: DatasetSpec, root: Path, program: Program, dimensions: int) -> np.ndarray:
    """The mask that evaluation makes of the one case, put back into the stored order."""

    def forward(x: Tensor) -> Tensor:
        return torch.from_numpy(program.run(x.numpy()))

    samples = spec.load(root, "train", OPTIONS, dimensions=dimensions)
    scorer = Scorer(samples, spec.preprocessing, program.input_multiple[-dimensions:], 2, torch.device("cpu"))
    masks = [mask for _, mask in scorer.predict(forward)]
    oriented = masks[0] if dimensions == 3 else np.stack(masks)
    return unorient(oriented, "LAS", spec.preprocessing.orientation)


@pytest.mark.parametrize(("dimensions", "rule"), RULES)
def test_one_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dimensions: int, rule: Preprocessing) -> None:
    monkeypatch.setattr("unetq.predict.Runtime", NumpyRuntime)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    image = store(tmp_path / "images" / "a.nii.gz", scene(), affine_for("LAS", (1.0, 1.2, 2.5), 12))
    store(tmp_path / "labels" / "a.nii.gz", (scene() > 60).astype(np.uint8), affine_for("LAS", (1.0, 1.2, 2.5), 12))
    channels = 1 + 2 * rule.context
    program = network(rank=dimensions, multiple=4, channels=channels, kernel=kernel(dimensions, channels))
    save(program, tmp_path / "m.uqm", ModelMeta("toy", ("dark", "bright"), (0, 1), rule))
    spec = replace(resolve_dataset("folder", OPTIONS), preprocessing=rule)
    predict(tmp_path / "m.uqm", image, tmp_path / "mask.nii.gz")
    mask = np.moveaxis(voxels(tmp_path / "mask.nii.gz"), 2, 0)
    assert 0.1 < mask.mean() < 0.9
    np.testing.assert_array_equal(mask, evaluated(spec, tmp_path, program, dimensions))
