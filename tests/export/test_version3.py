"""What version 3 of the model file added: which files need it, what may be written, and that it comes back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_equality import same
from methods_program import MUL, NORMED, PIXEL, SHIFTED, TABLE, methods_program, plain, shifted_conv

from unetq.cost import cost
from unetq.errors import ConfigError, UnsupportedError
from unetq.export.modelfile import encode, load, read, save, version_of
from unetq.export.packing import pack_weights, shift_groups, shift_of_each, unshifted
from unetq.export.program import Concat, Conv, InstanceNorm, ModelMeta, Mul, Pointwise, Program, Quantize, TensorSpec
from unetq.fixedpoint import Grid
from unetq.inspect import describe, inspect


def changed(number: int, **changes: Any) -> Program:
    """The program with one operation's fields replaced."""
    program = methods_program()
    ops: list[Any] = list(program.ops)
    ops[number] = replace(ops[number], **changes)
    return replace(program, ops=tuple(ops))


def with_grid(program: Program, tensor: int, grid: Grid | None) -> Program:
    tensors = list(program.tensors)
    tensors[tensor] = replace(tensors[tensor], grid=grid)
    return replace(program, tensors=tuple(tensors))


def identity(grid: Grid, norm: InstanceNorm | None = None) -> Program:
    """Quantise, and back to float32: version 1, unless the grid or norm needs more."""
    epilogue = replace(plain(1), instance_norm=norm)
    tensors = (TensorSpec("x", 1, None), TensorSpec("codes", 1, grid), TensorSpec("y", 1, None))
    return Program(tensors, (Quantize("q", (0,), 1), Pointwise("back", (1,), 2, epilogue)), 0, 2, 2, (1, 1, 1))


def only(op: Any, source: Grid, target: Grid | None = None, channels: int = 1) -> Program:
    """Quantise, one operation from tensor 1 to tensor 2, and that is the float32 end where ``target`` is None."""
    tensors = [TensorSpec("x", channels, None), TensorSpec("a", channels, source), TensorSpec("b", channels, target)]
    return Program(tuple(tensors), (Quantize("q", (0,), 1), op), 0, 2, 2, (1, 1, 1))


def norm(groups: int) -> InstanceNorm:
    return InstanceNorm(1e-5, np.ones(1, np.float32), np.zeros(1, np.float32), groups)


PLAIN = Grid(8, True, 0.5)
NEEDS = {
    "nothing": (identity(PLAIN), 1),
    "instance norm": (identity(PLAIN, norm(0)), 1),
    "zero-point": (identity(Grid(8, False, 0.5, 1)), 3),
    "narrow": (identity(Grid(8, True, 0.5, narrow=True)), 3),
    "dynamic": (identity(Grid(8, True, 1.0, dynamic=True)), 3),
    "group norm": (identity(PLAIN, norm(1)), 3),
    "mul": (only(Mul("m", (1, 1), 2, plain(1)), PLAIN), 3),
    "shifted": (only(replace(shifted_conv(), epilogue=plain(6)), PLAIN, channels=6), 3),
    "all": (methods_program(), 3),
}


@pytest.mark.parametrize("name", NEEDS)
def test_the_lowest_version_is_written(name: str) -> None:
    program, version = NEEDS[name]
    data = encode(program, ModelMeta())
    assert version_of(program) == version == data[8]
    assert same(read(data)[0], program)


def test_everything_comes_back(tmp_path: Path) -> None:
    program = methods_program()
    save(program, tmp_path / "m.uqm")
    assert same(load(tmp_path / "m.uqm")[0], program)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 32, 65536])
def test_shifted_weights_are_kept_as_codes(size: int) -> None:
    """Bytes of the file are those of the codes; each group has its shift, the last group may be short."""
    op = shifted_conv(size)
    assert op.weight_shift is not None and op.weight_shift.shape == (6, shift_groups(6, size))
    codes, steps = unshifted(op.weight, op.weight_shift, size)
    np.testing.assert_array_equal(codes * steps, op.weight)
    for c in range(6):
        assert (steps[:, c, 0, 0, 0] == 1 << op.weight_shift[:, c // size].astype(int)).all()
    data = encode(
        changed(SHIFTED, **{k: getattr(op, k) for k in ("weight", "weight_shift", "group_size")}), ModelMeta()
    )
    assert pack_weights(codes, 4, "twos_complement") in data and op.weight_shift.tobytes() in data
    found = read(data)[0].ops[SHIFTED]
    assert isinstance(found, Conv) and same(found.weight, op.weight) and same(found.weight_shift, op.weight_shift)


def test_the_widest_shifts() -> None:
    """-1 and 0 of two bits shifted by 7 fit int8: -128 and 0."""
    op = shifted_conv()
    assert op.weight_shift is not None
    weight = np.where(op.weight < 0, -128, 0).astype(np.int8)
    program = changed(SHIFTED, weight=weight, weight_shift=np.full_like(op.weight_shift, 7), weight_bits=2)
    assert same(read(encode(program, ModelMeta()))[0], program)


def bad_table(entry: int, value: int) -> np.ndarray:
    table = np.array(methods_program().ops[TABLE].table)  # type: ignore[union-attr]
    table[entry] = value
    return table


OP = shifted_conv()
SHIFTS = np.zeros_like(OP.weight_shift)
REFUSED = {
    "a table of 255": (changed(TABLE, table=np.zeros(255, np.int16)), "256 codes"),
    "a table of floats": (changed(TABLE, table=np.zeros(256, np.float32)), "256 codes"),
    "an entry beyond the output": (changed(TABLE, table=bad_table(3, -128)), "table entries -128"),
    "an entry nobody reads": (changed(TABLE, table=bad_table(16, 1)), "cannot take must be 0"),
    "a table onto float32": (with_grid(changed(PIXEL, inputs=(2,)), 3, None), "not dynamic"),
    "a table onto a dynamic grid": (with_grid(methods_program(), 3, Grid(8, True, 1.0, dynamic=True)), "not dynamic"),
    "a product with a zero-point": (changed(MUL, inputs=(4, 1)), "a product takes 0 only"),
    "a product of three": (changed(MUL, inputs=(4, 5, 5)), "3 inputs"),
    "a product of one": (changed(MUL, inputs=(4,)), "1 inputs"),
    "groups that do not divide": (
        changed(NORMED, epilogue=replace(methods_program().ops[NORMED].epilogue, instance_norm=replace(  # type: ignore[union-attr]
            norm(4), weight=np.ones(6, np.float32), bias=np.ones(6, np.float32)))),
        "must divide 6",
    ),
    "no shifts": (changed(SHIFTED, weight_shift=None), "have both"),
    "no group size": (changed(SHIFTED, group_size=0), "have both"),
    "shifts of plain weights": (changed(SHIFTED, weight_kind="twos_complement", weight_bits=8), "have both"),
    "one bit": (changed(SHIFTED, weight_bits=1), "shifted has 2 to 8"),
    "too few bits": (changed(SHIFTED, weight_bits=3), "before their shift"),
    "shifts of another shape": (changed(SHIFTED, weight_shift=SHIFTS[:, :1]), "weight_shift has shape"),
    "a shift of 8": (changed(SHIFTED, weight_shift=SHIFTS + 8), "0 to 7"),
    "no multiple": (changed(SHIFTED, weight_shift=SHIFTS + 7), "no multiple"),
    "more than int8": (changed(SHIFTED, weight=OP.weight.astype(np.int16) * 16), "must fit int8"),
    "a group of 65537": (changed(SHIFTED, group_size=65537), "group_size = 65537"),
    "a pool off its scale": (with_grid(methods_program(), 5, Grid(8, True, 1.0, dynamic=True)), "keeps the grid"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_written(name: str) -> None:
    program, told = REFUSED[name]
    with pytest.raises(UnsupportedError, match=told) as error:
        encode(program, ModelMeta())
    assert str(error.value).endswith(".")


def test_several_inputs_have_no_dynamic_grid() -> None:
    dynamic = Grid(8, True, 1.0, dynamic=True)
    eye = np.ones((2, 2, 1, 1, 1), np.int8)
    conv = Conv("c", (1, 1), 2, eye, 2, "twos_complement", np.ones(1, np.float32), plain(2))
    for op, target, told in ((Concat("joined", (1, 1), 2), dynamic, "Use a static grid"), (conv, None, "Use a static")):
        program = only(op, dynamic, target)
        tensors = (*program.tensors[:2], replace(program.tensors[2], channels=2))
        if target is not None:
            program = replace(program, output=0)
        with pytest.raises(UnsupportedError, match=told):
            encode(replace(program, tensors=tensors), ModelMeta())


def test_transposed_convolutions_take_no_zero_point() -> None:
    with pytest.raises(UnsupportedError, match="zero-point 20 at the input of a transposed"):
        encode(changed(SHIFTED, transposed=True), ModelMeta())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bits": 4, "signed": True, "scale": 1.0, "zero_point": 3}, "only unsigned"),
        ({"bits": 4, "signed": False, "scale": 1.0, "zero_point": 3, "rounding": "toward_zero"}, "only unsigned"),
        ({"bits": 4, "signed": False, "scale": 1.0, "zero_point": 16}, "0 to 15"),
        ({"bits": 4, "signed": False, "scale": 1.0, "narrow": True}, "narrow"),
        ({"bits": 1, "signed": True, "scale": 1.0, "narrow": True}, "narrow"),
        ({"bits": 4, "signed": True, "scale": 2.0, "dynamic": True}, "dynamic"),
        ({"bits": 4, "signed": False, "scale": 1.0, "zero_point": 3, "dynamic": True}, "dynamic"),
        ({"bits": 4, "signed": True, "scale": 1.0, "rounding": "toward_zero", "dynamic": True}, "dynamic"),
    ],
)
def test_grids_that_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Grid(**arguments)


def test_narrow_grids_are_symmetric() -> None:
    for bits in range(2, 9):
        grid = Grid(bits, True, 1.0, narrow=True)
        assert -grid.low == grid.high == 2 ** (bits - 1) - 1


def test_it_is_shown_and_priced(tmp_path: Path) -> None:
    program = methods_program()
    save(program, tmp_path / "m.uqm")
    found = inspect(tmp_path / "m.uqm", (8, 8))
    assert found["format_version"] == 3
    assert [layer["kind"] for layer in found["layers"]] == [
        "quantize", "conv", "table", "pointwise", "max_pool", "mul", "pointwise",
    ]  # fmt: skip
    codes = [layer["output_codes"] for layer in found["layers"]]
    assert codes == ["u6z20", "s5", "s8n", "s8d", "s8n", "s7", "float32"]
    assert found["layers"][SHIFTED]["weight_group_size"] == 4 and " 4s " in describe(found)
    layers = cost(program, (8, 8)).layers
    assert layers[SHIFTED].weight_bytes == 6 * 27 + OP.weight_shift.size + 4 * 12  # type: ignore[union-attr]
    assert layers[TABLE].weight_bytes == 256


def test_shift_of_each_weight() -> None:
    shifts = np.array([[1, 2, 3]], np.uint8)
    assert shift_of_each(shifts, 5, 2)[0, :, 0, 0, 0].tolist() == [1, 1, 2, 2, 3]
