"""`unetq verify`: no mismatch on a trained run, and one wrong code is one mismatch."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import small

from unetq.errors import ConfigError
from unetq.runtime import Runtime, available_isas
from unetq.train import train
from unetq.verify import describe, verify


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(train={"float_steps": 4, "quant_steps": 4}), tmp_path_factory.mktemp("verify") / "run")


def test_every_executor_agrees(run: Path) -> None:
    lines: list[str] = []
    found = verify(run, tell=lines.append)
    assert found["mismatches"] == 0
    assert [e["executor"] for e in found["executors"]] == ["numpy", *available_isas()]
    assert all(e["slices"] == 2 and e["values"] > 10_000 and e["tensors"] > 10 for e in found["executors"])
    assert len(lines) == 2 * len(found["executors"])


def test_one_wrong_code_is_found(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Runtime.run

    def wrong(self: Runtime, x: np.ndarray, trace: dict | None = None) -> np.ndarray:
        logits = right(self, x, trace)
        if self.isa == "scalar" and trace is not None:
            trace["#input"][0, 0, 0, 3, 4] += 1
        return logits

    monkeypatch.setattr(Runtime, "run", wrong)
    found = verify(run, limit=1)
    assert found["mismatches"] == 1
    assert found["executors"][1]["first"] == ["#input: 1 of 2304"]


def test_float_layers_are_told_apart(tmp_path: Path) -> None:
    experiment = small(quant={"float_layers": ["head"]}, train={"float_steps": 2, "quant_steps": 2})
    found = verify(train(experiment, tmp_path / "run"), limit=1)
    assert found["float_layers"] == ["head"]
    assert all(e["deviation"] <= 1e-5 for e in found["executors"])
    assert "not bound to be exact" in describe(found)


def test_a_split_that_is_not_there(run: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        verify(run, split="nowhere")
