"""Who takes part, what caps them, and a benchmark from end to end on a small model."""

from dataclasses import replace
from pathlib import Path

import fixed_bench as fixed
import pytest
from native_library import ensure_library, instruction_sets

from unetq.bench import caps, contenders, measure
from unetq.bench.job import Job
from unetq.bench.listing import describe, listing
from unetq.bench.process import WorkerError
from unetq.bench.result import ABSENT, MEASURED
from unetq.bench.run import run
from unetq.bench.table import markdown
from unetq.errors import ConfigError, DeviceError, OutputError

AMX_MACHINE = frozenset({"avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "amx_int8"})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    ensure_library(tmp_path)
    return fixed.packed(tmp_path)


def named(name: str) -> contenders.Contender:
    return next(peer for peer in contenders.PEERS if peer.name == name)


def test_caps_travel_in_the_environment(tmp_path: Path) -> None:
    ensure_library(tmp_path)
    job = Job(tmp_path, "s", 1, (208, 208), threads=2)
    avx2 = caps.CAPS["avx2"]
    peer = measure._environment(named("openvino-int8"), job, avx2)
    assert peer["ONEDNN_MAX_CPU_ISA"] == "AVX2" and peer["OMP_NUM_THREADS"] == "2" and "UNETQ_ISA" not in peer
    ours = measure._environment(contenders.own("w4a6"), job, avx2)
    assert ours["UNETQ_ISA"] == ("avx2" if "avx2" in instruction_sets() else "scalar")
    loose = measure._environment(named("onnxruntime-int8"), job, avx2)
    assert not {"UNETQ_ISA", "ONEDNN_MAX_CPU_ISA"} & set(loose)
    free = measure._environment(named("torch-x86"), job, caps.CAPS["none"])
    assert "ONEDNN_MAX_CPU_ISA" not in free


def test_who_is_held_to_a_cap() -> None:
    vnni, avx2 = caps.CAPS["avx512vnni"], caps.CAPS["avx2"]
    loose, switched = named("onnxruntime-int8"), named("openvino-int8")
    assert measure._capped(loose, vnni, AMX_MACHINE, {}) == (False, contenders.NO_SWITCH)
    without_amx = AMX_MACHINE - {"amx_int8"}
    assert measure._capped(loose, vnni, without_amx, {})[0], "the processor has no more than the cap"
    assert not measure._capped(loose, avx2, without_amx, {})[0]
    assert measure._capped(switched, avx2, AMX_MACHINE, {"ONEDNN_MAX_CPU_ISA": "AVX2"}) == (
        True,
        "ONEDNN_MAX_CPU_ISA=AVX2",
    )
    assert caps.own_isa(vnni, ("scalar", "avx2", "avx512vnni", "amx")) == "avx512vnni"
    assert caps.own_isa(caps.CAPS["avxvnni"], ("scalar", "avx2", "avx512vnni")) == "avx2"
    assert caps.own_isa(caps.CAPS["none"], ("scalar", "avx2")) is None
    with pytest.raises(ConfigError, match="lacks avx512f"):
        caps.find_cap("avx512vnni", frozenset({"avx2"}))
    with pytest.raises(ConfigError, match="does not exist"):
        caps.find_cap("sse2", AMX_MACHINE)


def test_processor_flags(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\n")
    assert caps.processor_flags(cpuinfo) == {"fpu", "avx2", "avx_vnni"}
    assert caps.processor_name(cpuinfo) == "A CPU @ 2 GHz"
    assert caps.processor_flags(tmp_path / "none") == frozenset()


def test_choosing() -> None:
    assert contenders.parse_bits(" W4A6,w2a2,w4a6") == ("w4a6", "w2a2")
    for bad in ("w9a6", "w4", "", "4,6", "w0a1"):
        with pytest.raises(ConfigError, match="bits"):
            contenders.parse_bits(bad)
    names = [c.name for c in contenders.choose(("w4a6",), "unetq,open")]
    assert names == ["unetq-w4a6", "openvino-int8", "openvino-float32"]
    with pytest.raises(ConfigError, match="fits nobody"):
        contenders.choose(("w4a6",), "tensorrt")
    assert all(peer.install.startswith("pip install ") for peer in contenders.PEERS if peer.needs)


def test_an_absent_peer_is_named_with_its_command(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    peers = replace(named("ncnn-float32"))
    monkeypatch.setattr(measure, "choose", lambda *_, **__: [contenders.own("own"), peers])
    said: list[str] = []
    bench = measure.measure(measure.Request(network=str(model), size=16, rounds=1), said.append)
    absent = bench.entries[1]
    assert (absent.status, absent.reason) == (ABSENT, "not installed (ncnn, pnnx)")
    assert "ncnn float32: absent, not installed (ncnn, pnnx); `pip install ncnn pnnx`." in markdown(bench)
    assert any("pip install ncnn pnnx" in line for line in said)
    monkeypatch.setattr(measure, "choose", lambda *_, **__: [peers])
    with pytest.raises(DeviceError, match="nothing could be measured: ncnn-float32: not installed"):
        measure.measure(measure.Request(network=str(model), size=16, rounds=1))


def test_broken_conversions_and_inexact_kernels_are_not_timed() -> None:
    fine = {"facts": {}}
    measure._require(named("openvino-int8"), fine, 0.95)
    measure._require(contenders.own("w1a1"), {"facts": {"exact": True}}, 0.0)
    with pytest.raises(WorkerError, match=r"by 0\.500, less than 0\.9"):
        measure._require(named("openvino-int8"), fine, 0.5)
    with pytest.raises(WorkerError, match=r"less than 0\.999"):
        measure._require(named("torch-float32"), fine, 0.99)
    with pytest.raises(WorkerError, match="avx2 differ from the scalar ones"):
        measure._require(contenders.own("w4a6"), {"facts": {"exact": False, "isa": "avx2"}}, None)


def test_end_to_end_on_a_packed_model(model: Path, tmp_path: Path) -> None:
    arguments = {"network": str(model), "size": 32, "cap": "none", "rounds": 3, "times": 2, "threads": 1}
    said: list[str] = []
    out = tmp_path / "out"
    text = run(arguments, "w4a6", None, out, False, ["bench", "-o", str(out), "--rounds", "3"], said.append)
    assert "unetq" in text and "exact" in text and said[-1] == f"{out}: written"
    assert "`unetq bench --rounds 3`" in (out / "table.md").read_text(), "the command without its place"
    bench = measure.measure(measure.Request(network=str(model), size=32, rounds=3))
    (entry,) = bench.entries
    assert entry.status == MEASURED and len(entry.ms) == len(entry.cpu_ms) == 3
    assert entry.facts["arena_bytes"] > 0 and bench.macs > 0 and entry.peak_bytes > 0
    with pytest.raises(OutputError):
        run(arguments, "w4a6", None, out, False, [], said.append)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"size": 33}, "multiples of"), ({"rounds": 0}, "--rounds 0"), ({"cap": "mmx"}, "does not exist")],
)
def test_bad_values(model: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure.measure(replace(measure.Request(network=str(model)), **change))  # type: ignore[arg-type]


def test_list(model: Path) -> None:
    found = listing(model)
    assert found["isas"][0] == "scalar" and found["caps"][0] == "none"
    text = describe(found)
    assert "instruction sets" in text and "openvino-int8" in text
    assert len(found["layers"]) > 3 and any(layer["kernel"] for layer in found["layers"])
    assert all(layer["reason"] for layer in found["layers"] if layer["scheme"])
