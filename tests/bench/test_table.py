"""From a fixed bench.json: ratios, the table, the page, the folder."""

import json
from dataclasses import replace
from pathlib import Path

import fixed_bench as fixed
import pytest

from unetq.bench import output, result, results, table
from unetq.errors import DataError, OutputError


def test_ratios_are_drawn_from_those_held_to_the_cap() -> None:
    bench = fixed.bench()
    ours = bench.entries[0]
    assert ours.median == 10.0
    best = bench.best("int8")
    assert best is not None and best.name == "slow8", "the faster one was not held to the cap"
    assert bench.ratio(ours, "int8") == pytest.approx(1.5)
    assert bench.ratio(ours, "float32") == pytest.approx(4.0)
    assert bench.speed(ours) == pytest.approx(2000.0)


def test_json_goes_both_ways(tmp_path: Path) -> None:
    bench = fixed.bench()
    path = tmp_path / "bench.json"
    path.write_text(result.to_json(bench))
    assert result.read(path) == bench
    written = json.loads(path.read_text())
    assert written["entries"][0]["median_ms"] == 10.0
    assert {"ours": "ours-w4a6", "over": "int8", "peer": "slow8", "times": 1.5} in written["ratios"]


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 99}', '{"schema": 1, "entries": [{}]}'])
def test_a_foreign_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bench\.json"):
        result.read(path)


def test_table() -> None:
    text = table.markdown(fixed.bench())
    assert "| OURS-W4A6 | 10.0 | 10.0–11.0 | 2000 |  | 50 | 60 | exact |" in text
    assert "| SLOW8 | 15.0 | 15.0–15.0 | 1333 | 1.50x | 50 | 60 | 0.9900 |" in text
    assert "| FAST8 * | 5.00 |" in text
    order = [text.index(name) for name in ("| OURS-W4A6", "| FAST8", "| SLOW8", "| REAL")]
    assert order == sorted(order), "ours, then int8 and float32, the fastest first"
    assert "OURS-W4A6: 1.50x the best int8 peer (SLOW8), 4.00x the best float32 peer (REAL)." in text
    assert "GONE: absent, not installed (gone); `pip install gone`." in text
    assert "BROKEN: failed: its logits are noise." in text
    assert "not held to AVX2 (no switch), so no ratio is drawn from it: FAST8." in text
    terminal = table.text(fixed.bench())
    assert "* not held to AVX2" in terminal and "\\*" not in terminal


def test_a_folder_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    output.write(fixed.bench(), target)
    assert {path.name for path in target.iterdir()} == {"bench.json", "table.md", "plot.png", "plot.svg"}
    assert (target / "plot.png").read_bytes().startswith(b"\x89PNG")
    svg = (target / "plot.svg").read_text()
    assert "OURS-W4A6" in svg and "FAST8" in svg
    with pytest.raises(OutputError, match="not empty"):
        output.write(fixed.bench(), target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_page(tmp_path: Path) -> None:
    (tmp_path / "s-avx2").mkdir()
    (tmp_path / "s-avx2" / "bench.json").write_text(result.to_json(fixed.bench()))
    (tmp_path / "l-avx2").mkdir()
    light = replace(fixed.bench(), network="l", description="network L")
    (tmp_path / "l-avx2" / "bench.json").write_text(result.to_json(light))
    count = {
        "network": "s", "engine": "unetq W4A6", "bits": "w4a6", "cpu": "cortex-a72", "architecture": "Armv8.0",
        "isa": "neon", "size": [208, 208], "macs": 1000, "instructions": 100, "agrees": True,
        "histogram": {"smlal.8h": 60, "add": 40}, "functions": {"f": 100},
    }  # fmt: skip
    peer = count | {"engine": "ONNX Runtime 1", "bits": "int8", "agrees": None, "instructions": 300}
    (tmp_path / "arm.json").write_text(json.dumps({"schema": 1, "unetq": "0", "counts": [count, peer]}))
    text = results.page(*results.load(tmp_path))
    assert text.index("network S") < text.index("network L")
    assert "| S | AVX2 | OURS-W4A6 | 10 | 1.50x (SLOW8) | 4.00x (REAL) |" in text
    assert "| S | unetq W4A6 | cortex-a72 (Armv8.0) | neon | 0.000 G | 0.1000 | yes | 3.00x |" in text
    assert "ESTIMATED" in text and "smlal.8h 60.0" in text
    with pytest.raises(DataError, match="no results"):
        results.load(tmp_path / "s-avx2")
