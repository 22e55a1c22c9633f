"""Rounding, bias and norms, layer by layer."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from ptq_nets import images, low_bit, paper, uneven
from torch import Tensor, nn

from unetq.errors import DataError, UnsupportedError
from unetq.ptq.adaround import AdaRound, beta_at, inverse_rectified_sigmoid, rectified_sigmoid
from unetq.ptq.batchnorm import BatchNormEstimation
from unetq.ptq.bias import BiasCorrection
from unetq.ptq.lockstep import Lockstep, Place
from unetq.ptq.moments import channel_mean, channel_moments
from unetq.ptq.network import Options, quantize_after_training
from unetq.ptq.patches import gather, matrix, multiply, pick, weight_of
from unetq.quant.convert import quantize
from unetq.quant.network import QuantNet
from unetq.quant.simulate import convolve, simulate


def attributes(**given: object) -> dict[str, object]:
    triple = {"stride": (1, 1, 1), "dilation": (1, 1, 1), "pad_before": (0, 0, 0), "pad_after": (0, 0, 0)}
    return {**triple, "output_padding": (0, 0, 0), "groups": 1, "transposed": False, **given}


CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]] = {
    "3x3": ((2, 4, 9, 7), (6, 4, 3, 3), {"pad_before": (0, 1, 1), "pad_after": (0, 1, 1)}),
    "strided": ((2, 4, 9, 8), (6, 4, 3, 3), {"stride": (1, 2, 2), "pad_before": (0, 1, 1), "pad_after": (0, 1, 1)}),
    "dilated": ((1, 2, 9, 9), (3, 2, 3, 3), {"dilation": (1, 2, 2), "pad_before": (0, 2, 2), "pad_after": (0, 2, 2)}),
    "uneven padding": ((1, 2, 6, 6), (3, 2, 2, 2), {"pad_before": (0, 0, 1), "pad_after": (0, 1, 0)}),
    "grouped": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2, "pad_before": (0, 1, 1), "pad_after": (0, 1, 1)}),
    "depthwise": ((2, 4, 5, 5), (4, 1, 3, 3), {"groups": 4}),
    "transposed": ((2, 4, 5, 6), (4, 3, 2, 2), {"transposed": True, "stride": (1, 2, 2)}),
    "transposed, overlapping": (
        (2, 4, 5, 5),
        (4, 3, 3, 3),
        {"transposed": True, "stride": (1, 2, 2), "pad_before": (0, 1, 1), "output_padding": (0, 1, 1)},
    ),
    "transposed, grouped": ((1, 4, 4, 4), (4, 3, 2, 2), {"transposed": True, "stride": (1, 2, 2), "groups": 2}),
    "3-D": ((1, 2, 4, 5, 6), (3, 2, 3, 3, 3), {"pad_before": (1, 1, 1), "pad_after": (1, 1, 1)}),
    "3-D transposed": ((1, 2, 2, 3, 2), (2, 3, 2, 2, 2), {"transposed": True, "stride": (2, 2, 2)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_convolution_at_positions_is_the_convolution(case: str) -> None:
    shape, kernel, given = CASES[case]
    torch.manual_seed(len(case))
    x, weight = torch.randn(shape), torch.randn(kernel)
    block = SimpleNamespace(attributes=attributes(**given))
    expected = convolve(x, weight, None, block.attributes, len(shape) - 2)
    total = expected.shape[0] * expected[0, 0].numel()
    where = torch.randperm(total)[:200]
    patches = gather(block, x, where, expected.shape, kernel[2:])
    found = multiply(patches, matrix(block, weight))
    torch.testing.assert_close(found, pick(expected, where), rtol=1e-5, atol=1e-5)
    assert torch.equal(weight_of(block, matrix(block, weight), weight.shape), weight)


def run(q: QuantNet, net: nn.Module, batches: list[Tensor], visit: Callable[[Place], None]) -> None:
    reference = quantize(net, 4, 6, example_input=batches[0][:1]).eval()
    Lockstep(reference, q, batches).run(visit)


def test_lockstep_computes_what_the_networks_compute() -> None:
    """The head's sums, seen by a visitor, are the logits of the float network and of the fake-quantised one."""
    net, batches = paper(), images()
    q = low_bit(net, batches)
    seen: dict[str, list[list[Tensor]]] = {}

    def visit(place: Place) -> None:
        seen[place.block.key] = [place.float_sums(), place.low_bit_sums()]

    run(q, net, batches, visit)
    assert len(seen) == 7
    with torch.no_grad():
        for i, x in enumerate(batches):
            torch.testing.assert_close(seen["head"][0][i], net(x), rtol=1e-5, atol=1e-5)
            expected = simulate(q, x, quantized=True, training=False)
            torch.testing.assert_close(seen["head"][1][i], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", ["conv-relu-norm", "conv-norm-relu"])
def test_bias_correction_takes_the_shift_away(order: str) -> None:
    net, batches = paper(order), images()
    q, plain = low_bit(net, batches, 3, 4), low_bit(net, batches, 3, 4)
    correction = BiasCorrection()
    run(q, net, batches, correction)
    assert len(correction.record) == 7
    for key, entry in correction.record.items():
        assert entry["shift_after"] < 1e-4, key
        behind = key == "encoder.1.3" or (order == "conv-relu-norm" and key != "head")  # the bottom has one more norm
        assert ("norm_shift_after" in entry) == behind
        assert entry.get("norm_shift_after", 0.0) < 1e-4
    assert max(entry["shift_before"] for entry in correction.record.values()) > 0.01
    with torch.no_grad():
        expected = channel_mean([net(x) for x in batches])
        before = (channel_mean([plain(x) for x in batches]) - expected).abs().max()
        after = (channel_mean([q(x) for x in batches]) - expected).abs().max()
    assert after < 0.2 * before and after < 1e-3


def test_bias_correction_says_what_it_leaves_out() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False, padding=1), nn.InstanceNorm2d(4, affine=True), nn.ReLU(),
        nn.Conv2d(4, 4, 3, bias=False, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1),
    ).eval()  # fmt: skip
    correction = BiasCorrection()
    run(low_bit(net, images()), net, images(), correction)
    assert "measures each image" in correction.record["0"]["left_out"]
    assert "no bias" in correction.record["3"]["left_out"] and correction.record["3"]["shift_after"] > 0
    assert correction.record["5"]["shift_after"] < 1e-4


@pytest.mark.parametrize("order", ["conv-relu-norm", "conv-norm-relu"])
def test_batchnorm_statistics_are_those_of_the_low_bit_layers(order: str) -> None:
    """Behind the re-estimated norms every channel has mean ``bias`` and deviation ``weight``."""
    net, batches = paper(order), images()
    q = low_bit(net, batches, 3, 4)
    estimation = BatchNormEstimation()
    run(q, net, batches, estimation)
    assert all(entry["mean_change"] > 0 for entry in estimation.record.values()) and len(estimation.record) == 6
    outputs: list[Tensor] = []

    def observe(block: object, values: Tensor) -> None:
        if getattr(block, "key", "") == "decoder.0.0":
            outputs.append(values.detach())

    if order == "conv-relu-norm":
        with torch.no_grad():
            for x in batches:
                simulate(q, x, quantized=True, training=False, observe=observe)
        mean, variance = channel_moments(outputs)
        norm = q.net.decoder[0][2]
        alive = norm.running_var > 1e-4
        torch.testing.assert_close(mean[alive].float(), norm.bias[alive], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(variance.sqrt()[alive].float(), norm.weight[alive].abs(), rtol=2e-3, atol=1e-4)


def test_a_dead_channel_keeps_its_variance() -> None:
    net, batches = paper(), images()
    with torch.no_grad():
        net.encoder[0][0].weight[2] = 0.0
        net.encoder[0][0].bias[2] = -1.0
    q = low_bit(net, batches)
    before = float(q.net.encoder[0][2].running_var[2])
    run(q, net, batches, BatchNormEstimation())
    assert float(q.net.encoder[0][2].running_var[2]) == before and float(q.net.encoder[0][2].running_mean[2]) == 0.0


def test_the_rectified_sigmoid_and_its_schedule() -> None:
    h = torch.linspace(0, 1, 11)
    torch.testing.assert_close(rectified_sigmoid(inverse_rectified_sigmoid(h)), h, rtol=1e-5, atol=1e-6)
    betas = [beta_at(i, 100) for i in range(100)]
    assert betas[:20] == [None] * 20 and betas[20] == 20.0 and betas[99] < 2.1
    assert all(a > b for a, b in itertools.pairwise(betas[20:]))


def chosen(net: nn.Module, batches: list[Tensor], seed: int = 0) -> tuple[QuantNet, AdaRound]:
    q = low_bit(net, batches, 3, 8)
    rounding = AdaRound(seed, iterations=120)
    run(q, net, batches, rounding)
    return q, rounding


@pytest.mark.parametrize("order", ["conv-relu-norm", "conv-norm-relu"])
def test_adaround_beats_nearest_rounding(order: str) -> None:
    net, batches = paper(order), images()
    plain = low_bit(net, batches, 3, 8)
    q, rounding = chosen(net, batches)
    assert len(rounding.record) == 7
    for key, entry in rounding.record.items():
        assert entry["error_chosen"] <= entry["error_nearest"], key
    assert sum(e["error_chosen"] for e in rounding.record.values()) < 0.9 * sum(
        e["error_nearest"] for e in rounding.record.values()
    )
    fresh = images(seed=9)  # neither learned nor chosen on
    with torch.no_grad():
        errors = [sum(float((p(x) - net(x)).square().mean()) for x in fresh) for p in (q, plain)]
    assert errors[0] < 0.85 * errors[1]


def test_adaround_moves_codes_by_at_most_one_and_codes_tell_them() -> None:
    net, batches = paper(), images()
    q, rounding = chosen(net, batches)
    plain = low_bit(net, batches, 3, 8)
    moved = 0
    for block in q.blocks():
        if block.kind != "conv":
            continue
        weight = q.tensor(block.parameters["weight"]).detach()
        quantizer = q.weight_quantizer(block)
        after = quantizer.codes(weight.numpy())
        before = quantizer.codes(plain.tensor(block.parameters["weight"]).detach().numpy())
        assert torch.equal(quantizer(weight), weight), block.key  # already levels
        change = abs(after.codes.astype(int) - before.codes.astype(int))
        assert change.max() <= 1 and (after.scale == before.scale).all()
        moved += int(change.sum())
        assert rounding.record[block.key]["moved"] == pytest.approx(change.mean(), abs=1e-6)
    assert moved > 0


def test_adaround_is_decided_by_its_seed() -> None:
    net, batches = paper(), images()
    first, again, other = (chosen(net, batches, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_adaround_of_transposed_and_grouped_layers() -> None:
    torch.manual_seed(5)
    net = uneven(
        nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.LeakyReLU(0.1), nn.Conv2d(8, 8, 3, padding=1, groups=4),
            nn.ReLU(), nn.ConvTranspose2d(8, 6, 2, stride=2), nn.InstanceNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1),
        ),
        5,
    )  # fmt: skip
    _, rounding = chosen(net, images())
    assert set(rounding.record) == {"0", "2", "4", "7"}
    assert all(e["error_chosen"] <= e["error_nearest"] for e in rounding.record.values())
    assert sum(e["error_chosen"] < e["error_nearest"] for e in rounding.record.values()) >= 3


def test_adaround_leaves_out_what_has_no_neighbours() -> None:
    net, batches = paper(), images()
    q = quantize(net, 1, 4, float_layers=("head",), example_input=batches[0][:1]).eval()
    record = quantize_after_training(q, batches, Options(adaround=True, iterations=3))
    assert record["adaround"]["head"]["left_out"] == "its weight stays float32"
    assert "no neighbouring levels" in record["adaround"]["encoder.1.0"]["left_out"]
    assert "error_chosen" in record["adaround"]["encoder.0.0"]  # 8 bits


def test_a_quantiser_that_moves_its_levels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from unetq.quant.fixed_point import FixedPointWeight

    right = FixedPointWeight.codes
    monkeypatch.setattr(FixedPointWeight, "codes", lambda self, weight: right(self, weight * 1.7))
    q = quantize(paper(), 4, 6, example_input=images()[0][:1]).eval()
    with pytest.raises(UnsupportedError, match=r"layer encoder\.0\.0: its quantiser"):
        quantize_after_training(q, images(), Options(adaround=True, iterations=2))


def test_all_steps_together_export_exactly() -> None:
    net, batches = paper(), images()
    q = quantize(net, 4, 6, example_input=batches[0][:1]).eval()
    options = Options(equalize=True, bias_correction=True, adaround=True, bn_reestimate=True, iterations=40)
    lines: list[str] = []
    record = quantize_after_training(q, batches, options, tell=lines.append)
    assert {"equalize", "adaround", "bn_reestimate", "bias_correction", "calibrate"} <= set(record) and lines
    plain = quantize(net, 4, 6, example_input=batches[0][:1]).eval()
    quantize_after_training(plain, batches, Options())
    fresh = images(seed=9)
    with torch.no_grad():
        program = q.program((24, 24))
        errors = [0.0, 0.0]
        for x in fresh:
            assert (program.run(x.numpy()) == q(x).numpy()).all()
            for i, network in enumerate((q, plain)):
                errors[i] += float((network(x) - net(x)).square().mean())
    assert errors[0] < errors[1]


def test_bad_batches_are_refused() -> None:
    net = paper()
    for batches, match in (
        ([], "0 images"),
        ([torch.zeros(0, 1, 24, 24)], "N at least 1"),
        ([torch.full((1, 1, 24, 24), torch.nan)], "NaN"),
        ([torch.zeros(1, 1, 24, 24), torch.zeros(1, 1, 16, 16)], "one size"),
    ):
        q = quantize(net, 4, 6, example_input=torch.zeros(1, 1, 24, 24))
        with pytest.raises(DataError, match=match):
            quantize_after_training(q, batches, Options())
        assert not bool(q.calibrated)
    with torch.no_grad():
        net.encoder[0][0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match=r"encoder\.0\.0"):
        quantize_after_training(quantize(net, 4, 6), images(), Options())
