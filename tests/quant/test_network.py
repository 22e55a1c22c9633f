"""Quantised networks as users meet them: bits where they belong, state that travels, errors that help."""

import copy

import pytest
import torch
from torch import nn

import unetq
from unetq.errors import CheckpointError, ConfigError, DataError, UnsupportedError
from unetq.nets import PAPER_FLOAT_LAYERS, build_network, count_parameters
from unetq.quant import fixed_point

SMALL = {"widths": [4, 6, 8, 8]}


def small(**options) -> nn.Module:
    torch.manual_seed(0)
    return build_network("paper", {**SMALL, **options})


def batches(count: int = 2) -> list[torch.Tensor]:
    return [torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(count)]


def calibrated(net: nn.Module, *args, **kwargs) -> unetq.QuantNet:
    q = unetq.quantize(net, *args, **kwargs)
    unetq.calibrate(q, batches())
    return q


def weight_bits(program: unetq.Program) -> dict[str, int]:
    return {op.name: op.weight_bits for op in program.ops if hasattr(op, "weight_bits")}


def test_the_paper_network_has_the_published_size() -> None:
    assert count_parameters(build_network("paper")) == 4_837_249


@pytest.mark.parametrize("bad", [0, 9, 16, -4, 4.0, "4", True])
def test_impossible_widths_are_refused(bad) -> None:
    with pytest.raises(ConfigError, match="widths are 1 to 8 bits, or 32"):
        unetq.quantize(small(), weight_bits=bad)
    with pytest.raises(ConfigError, match="widths are 1 to 8 bits, or 32"):
        unetq.quantize(small(), act_bits=bad)


def test_first_and_last_layers_have_widths_of_their_own() -> None:
    program = unetq.lower(calibrated(small(), 3, 5, first_bits=7, last_bits=6), torch.zeros(1, 1, 32, 32))
    bits = weight_bits(program)
    assert bits.pop("encoder.0.0") == 7 and bits.pop("head") == 6
    assert set(bits.values()) == {3}
    grids = {t.name: t.grid for t in program.tensors}
    assert grids["#input"].bits == 7 and grids["decoder.2.3"].bits == 6
    assert grids["head"] is None and grids["encoder.1.3"].bits == 5


def test_one_tensor_one_grid_across_the_skip() -> None:
    program = unetq.lower(calibrated(small()), torch.zeros(1, 1, 32, 32))
    grids = {t.name: t.grid for t in program.tensors}
    assert grids["encoder.0.3"] == grids["#max_pool0"] == grids["#upsample_linear2"]
    joined = next(op for op in program.ops if op.name == "decoder.2.0")
    assert len(joined.inputs) == 2


@pytest.mark.parametrize(("order", "signed"), [("conv-relu-norm", True), ("conv-norm-relu", False)])
def test_activations_are_unsigned_only_behind_a_relu(order: str, signed: bool) -> None:
    program = unetq.lower(calibrated(small(order=order)), torch.zeros(1, 1, 32, 32))
    grids = {t.name: t.grid for t in program.tensors}
    assert grids["encoder.1.0"].signed is signed
    assert grids["#input"].signed


def test_the_paper_policy_keeps_its_layers_in_float() -> None:
    q = calibrated(small(), 4, 6, method="paper", float_layers=PAPER_FLOAT_LAYERS)
    program = unetq.lower(q, torch.zeros(1, 1, 32, 32))
    bits = weight_bits(program)
    assert {name for name, b in bits.items() if b == 32} == {"encoder.0.0", "encoder.0.3", "head"}
    assert {b for b in bits.values() if b != 32} == {6}  # Q0.4 is packed at six bits
    grids = {t.name: t.grid for t in program.tensors}
    assert grids["encoder.0.0"] is None and grids["encoder.0.3"].rounding == "toward_zero"
    out = q.eval()(batches()[0])
    torch.testing.assert_close(out, torch.from_numpy(program.run(batches()[0].numpy())), rtol=0, atol=1e-5)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'stem' matches no convolution; the layers are encoder\.0\.0"):
        unetq.quantize(small(), float_layers=["stem"])


def test_the_original_network_is_untouched() -> None:
    net = small()
    before = copy.deepcopy(net.state_dict())
    q = calibrated(net)
    q.train()
    q(batches()[0]).sum().backward()
    torch.optim.SGD(q.parameters(), 0.1).step()
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_both_widths_at_32_run_the_float_network() -> None:
    net = small()
    q = unetq.quantize(net, 32, 32)
    x = batches()[0]
    expected = net.eval()(x)
    torch.testing.assert_close(q.eval()(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(q.float_forward(x), expected)


def test_training_learns_and_refines_step_sizes() -> None:
    q = calibrated(small())
    q.train()
    x, y = torch.cat(batches()), (torch.cat(batches()) > 0.3).float()
    groups = [{"params": q.network_parameters(), "lr": 1e-2}, {"params": q.quantizer_parameters(), "lr": 1e-2}]
    optimizer = torch.optim.Adam(groups)
    steps = [p.detach().clone() for p in q.quantizer_parameters()]
    losses = []
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(q(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert any(not torch.equal(a, b) for a, b in zip(steps, q.quantizer_parameters(), strict=True))
    q.freeze_step_sizes()
    assert q.quantizer_parameters() == []


def test_state_travels_and_keeps_every_bit() -> None:
    q = calibrated(small())
    q.train()
    q(batches()[0])
    other = unetq.quantize(small(), 4, 6)
    other.load_state_dict(q.state_dict())
    x = batches()[1]
    assert torch.equal(q.eval()(x), other.eval()(x))
    assert torch.equal(copy.deepcopy(q)(x), q(x))


def test_evaluation_follows_the_parameters() -> None:
    q = calibrated(small()).eval()
    x = batches()[0]
    before = q(x)
    with torch.no_grad():
        q.net.head.bias.add_(1.0)
    torch.testing.assert_close(q(x), before + 1.0)


def test_a_checkpoint_of_another_network_is_refused() -> None:
    state = calibrated(build_network("paper", {"widths": [4, 6, 8, 10]})).state_dict()
    with pytest.raises(CheckpointError, match="another network"):
        unetq.quantize(small()).load_state_dict(state)


def test_use_before_calibration_is_refused() -> None:
    q = unetq.quantize(small())
    for mode in (True, False):
        with pytest.raises(CheckpointError, match=r"call unetq\.calibrate"):
            q.train(mode)(batches()[0])
    with pytest.raises(CheckpointError, match=r"call unetq\.calibrate"):
        unetq.lower(q, batches()[0])


def test_calibration_refuses_what_it_cannot_use() -> None:
    with pytest.raises(DataError, match="0 batches"):
        unetq.calibrate(unetq.quantize(small()), [])
    with pytest.raises(DataError, match="NaN"):
        unetq.calibrate(unetq.quantize(small()), [torch.full((1, 1, 32, 32), float("nan"))])
    broken = small()
    broken.encoder[1][0].weight.data[0, 0, 0, 0] = float("inf")
    with pytest.raises(DataError, match=r"weight of layer encoder\.1\.0 holds NaN"):
        unetq.calibrate(unetq.quantize(broken), batches())
    broken = small()
    broken.encoder[1][2].running_var.fill_(float("nan"))
    with pytest.raises(DataError, match=r"layer encoder\.1\.0 makes NaN"):
        unetq.calibrate(unetq.quantize(broken), batches())


def test_a_network_of_unknown_input_asks_for_an_example() -> None:
    with pytest.raises(UnsupportedError, match="example_input"):
        unetq.quantize(nn.Sequential(nn.BatchNorm2d(3)))


def test_a_grid_of_another_width_and_the_same_step_makes_another_program() -> None:
    q = calibrated(small())
    program = q.program((32, 32))
    assert q.program((32, 32)) is program
    slot = "grid/encoder/1/3"
    q.grids[slot] = copy.deepcopy(q.grids[slot])
    assert q.program((32, 32)) is program  # equal in all
    before = q.grids[slot].bits
    for grid, bits in ((q.grids[slot], 4), (q.grids[slot], before)):
        grid.bits = bits
        grid.low, grid.high = fixed_point._limits(bits, grid.signed)
        found = next(t.grid for t in q.program((32, 32)).tensors if t.name == "encoder.1.3")
        assert found is not None and found.bits == bits


def test_programs_know_the_sizes_they_accept() -> None:
    program = unetq.lower(calibrated(small()), torch.zeros(1, 1, 40, 32))
    assert program.input_multiple == (1, 8, 8) and program.fixed_size is None
    with pytest.raises(DataError, match="multiple of"):
        program.run(torch.zeros(1, 1, 36, 32).numpy())
    q = unetq.quantize(
        build_network("basic_unet", {"features": [4, 4, 4, 4, 4, 4]}), example_input=torch.zeros(1, 1, 35, 32)
    )
    unetq.calibrate(q, [torch.randn(1, 1, 35, 32)])
    program = unetq.lower(q, torch.zeros(1, 1, 35, 32))
    assert program.fixed_size == (1, 35, 32)
    with pytest.raises(DataError, match="traced for"):
        program.run(torch.zeros(1, 1, 32, 32).numpy())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_executor_refuses_numbers_that_are_none(value: float) -> None:
    q = calibrated(small()).eval()
    x = batches()[0].clone()
    x[0, 0, 3, 3] = value
    with pytest.raises(DataError, match="NaN or infinity"):
        q(x)
    with pytest.raises(DataError, match="NaN or infinity"):
        unetq.lower(q, x).run(x.numpy())


def chain(*modules: nn.Module, forward=None) -> nn.Module:
    """A module of the given children ``a``, ``b``, … with ``forward(self, x)``."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, module in zip("abcdef", modules, strict=False):
                self.add_module(name, module)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(self, x)

    torch.manual_seed(1)
    return Net()


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def test_a_copy_keeps_what_an_in_place_layer_overwrites() -> None:
    def forward(s: nn.Module, x: torch.Tensor) -> torch.Tensor:
        h = s.a(x)
        keep, same = h.clone(), h.detach()
        return s.b(torch.cat([keep, nn.functional.relu(h, inplace=True), same], 1))

    net = chain(conv(1, 3), conv(9, 1), forward=forward).eval()
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(unetq.quantize(net, 8, 8, example_input=x).float_forward(x), net(x))


def test_only_convolutions_that_see_nothing_but_the_image_are_first() -> None:
    def forward(s: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = s.a(x)
        z = s.b(torch.cat([x, y], 1))
        return s.d(s.c(z))

    net = chain(conv(1, 3), conv(4, 3), conv(3, 3), conv(3, 1), forward=forward)
    program = unetq.lower(calibrated(net, 2, 3), torch.zeros(1, 1, 32, 32))
    assert weight_bits(program) == {"a": 8, "b": 2, "c": 2, "d": 8}


def test_a_norm_on_the_image_leaves_the_first_layer_first() -> None:
    net = chain(nn.InstanceNorm2d(1), conv(1, 3), conv(3, 3), conv(3, 1), forward=lambda s, x: s.d(s.c(s.b(s.a(x)))))
    program = unetq.lower(calibrated(net, 1, 1), torch.zeros(1, 1, 32, 32))
    assert weight_bits(program) == {"b": 8, "c": 1, "d": 8}
    grids = {t.name: t.grid for t in program.tensors}
    assert grids["#input"].bits == grids["#pointwise0"].bits == 8 and grids["b"].bits == 1


def test_a_layer_called_twice_has_the_larger_width() -> None:
    net = chain(conv(1, 2), conv(2, 2), forward=lambda s, x: s.b(s.b(s.a(x))))
    assert weight_bits(unetq.lower(calibrated(net, 2, 2), torch.zeros(1, 1, 32, 32))) == {"a": 8, "b": 8, "b@1": 8}


def test_programs_tied_to_a_size_say_so() -> None:
    def forward(s: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return s.b(nn.functional.interpolate(s.a(nn.functional.max_pool2d(x, 2)), size=(32, 32), mode="bilinear"))

    net = chain(conv(1, 2), conv(2, 1), forward=forward)
    assert unetq.lower(calibrated(net), torch.zeros(1, 1, 32, 32)).fixed_size == (1, 32, 32)
    padded = chain(nn.ZeroPad2d(1), nn.Conv2d(1, 2, 3), forward=lambda s, x: s.b(s.a(x)))
    assert unetq.lower(calibrated(padded), torch.zeros(1, 1, 32, 32)).fixed_size is None


def test_names_of_layers_are_free() -> None:
    net = nn.Sequential()
    for name in ("keys", "a__b", "add_0"):
        net.add_module(name, conv(1, 1))
    inner = nn.Sequential()
    inner.add_module("b", conv(1, 1))
    net.add_module("a", inner)
    q = calibrated(net)
    assert weight_bits(unetq.lower(q, torch.zeros(1, 1, 32, 32))).keys() == {"keys", "a__b", "add_0", "a.b"}


def test_writes_behind_the_back_are_seen() -> None:
    q = calibrated(small()).eval()
    x = batches()[0]
    before = q(x)
    q.net.head.bias.data.add_(1.0)
    torch.testing.assert_close(q(x), before + 1.0)


def test_broken_weights_are_never_lowered() -> None:
    q = calibrated(small()).eval()
    with torch.no_grad():
        q.net.encoder[1][0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(UnsupportedError, match=r"encoder\.1\.0: its weight holds NaN"):
        q(batches()[0])


def test_a_checkpoint_of_other_widths_is_refused() -> None:
    state = calibrated(small(), 4, 6).state_dict()
    with pytest.raises(CheckpointError, match="their codes mean different numbers"):
        unetq.quantize(small(), 8, 8).load_state_dict(state)


def test_frozen_norms_stay_frozen() -> None:
    q = calibrated(small())
    q.train()
    norm = q.net.encoder[0][2]
    norm.eval()
    before = norm.running_mean.clone(), q.net.encoder[1][2].running_mean.clone()
    q(batches()[0])
    assert torch.equal(norm.running_mean, before[0])
    assert not torch.equal(q.net.encoder[1][2].running_mean, before[1])


def test_an_empty_batch_has_a_shape() -> None:
    net = chain(conv(1, 2), forward=lambda s, x: nn.functional.max_pool2d(s.a(x), 2))
    program = unetq.lower(calibrated(net), torch.zeros(1, 1, 32, 32))
    assert program.run(torch.zeros(0, 1, 32, 32).numpy()).shape == (0, 2, 16, 16)


@pytest.mark.parametrize("batch", [torch.zeros(0, 1, 32, 32), (torch.zeros(1, 1, 32, 32), 1)])
def test_calibration_batches_are_tensors_with_something_in_them(batch) -> None:
    with pytest.raises(DataError, match="a calibration batch is"):
        unetq.calibrate(unetq.quantize(small()), [batch])


def test_calibration_refuses_images_of_one_value() -> None:
    with pytest.raises(DataError, match=r"every pixel of the calibration images is 0; .* Give real images"):
        unetq.calibrate(unetq.quantize(small()), [torch.zeros(1, 1, 32, 32)])
