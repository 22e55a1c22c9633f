"""What ``unetq-run`` does before and behind the network, function by function, to the last bit.

A mask hides small differences; these functions, compiled by themselves, do not.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from native_library import SOURCES, lacking
from numpy.typing import NDArray

from unetq.export.program import Preprocessing
from unetq.geometry import axes_of, orient, spacing_of, unorient
from unetq.preprocess import normalize, pad_to_size, padded_size, volume_moments
from unetq.resample import resample, resampled_size
from unetq.tiling import tiled

Array = NDArray[np.float32]
SHIM = """
#include <string.h>
#include "geometry.h"
#include "preprocess.h"
#include "resample.h"
#include "tiles.h"
using namespace tool;
extern "C" {
void sums(const float* values, uint64_t count, double* both) {
    const Moments found = moments_of(values, count);
    both[0] = found.mean;
    both[1] = found.deviation;
}
int rule(float* values, uint64_t count, uint32_t rule, double low, double high, const double* moments) {
    uq_model_info info = {};
    info.normalize = rule;
    info.window_low = low;
    info.window_high = high;
    const Moments given = {moments ? moments[0] : 0, moments ? moments[1] : 0};
    return normalize(values, count, info, moments ? &given : nullptr);
}
uint64_t windows(const uint32_t* size, const uint32_t* call, double overlap) {
    return plan_tiles(size, call, overlap).windows();
}
void cut(const float* image, const uint32_t* size, const uint32_t* call, double overlap, uint64_t window, float* to,
         uint32_t* corner) {
    const Tiles tiles = plan_tiles(size, call, overlap);
    corner_of(tiles, window, corner);
    take_window(tiles, image, corner, to);
}
void blend(const float* logits, const uint32_t* size, const uint32_t* call, double overlap, float* sum, float* share) {
    const Tiles tiles = plan_tiles(size, call, overlap);
    for (uint64_t i = 0; i < tiles.windows(); ++i) {
        uint32_t corner[3];
        corner_of(tiles, i, corner);
        add_window(tiles, logits + i * elements(call), corner, sum);
        add_weights(tiles, corner, share);
    }
    divide(sum, share, elements(tiles.whole));
}
uint64_t length(uint32_t samples, double have, double want) { return resampled_length(samples, have, want); }
void scale(float* even, float* odd, const uint32_t* from, const uint32_t* to, float* result) {
    const Resampling plan = plan_resampling(1, from, to);
    memcpy(result, resample(plan, even, odd), elements(to) * sizeof(float));
}
int place(const double* affine, double* spacing, char* axes) {
    Geometry found = {};
    const Fault fault = geometry_of(reinterpret_cast<const double(*)[4]>(affine), &found);
    memcpy(spacing, found.spacing, sizeof found.spacing);
    memcpy(axes, found.axes, sizeof found.axes);
    return static_cast<int>(fault);
}
void walk(const char* axes, const char* orientation, const uint32_t* size, int back, int64_t* found) {
    const Turn turn = find_turn(axes, orientation);
    const Walk walk = back ? walk_back(turn, size) : walk_there(turn, size);
    found[0] = walk.first;
    memcpy(found + 1, walk.step, sizeof walk.step);
}
}
"""
SEED = 20261121


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    folder, tools = tmp_path_factory.mktemp("shim"), SOURCES / "tools"
    (folder / "shim.cpp").write_text(SHIM)
    compiler = os.environ.get("CXX", "c++").split()
    names = ("preprocess", "geometry", "resample", "tiles")
    command = [*compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{tools}"]
    command += [
        "-o",
        str(folder / "shim.so"),
        str(folder / "shim.cpp"),
        *(str(tools / f"{name}.cpp") for name in names),
    ]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        lacking(f"{compiler[0]} is not installed")
    library = ctypes.CDLL(str(folder / "shim.so"))
    library.windows.restype = library.length.restype = ctypes.c_uint64
    yield library


def at(array: NDArray[np.generic]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


def three(size: tuple[int, ...]) -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * 3)(*(1,) * (3 - len(size)), *size)


def number(value: float) -> ctypes.c_double:
    return ctypes.c_double(value)


def values(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return (rng.standard_normal(shape) * rng.choice([1e-9, 1, 300]) + rng.choice([0, 1000])).astype(np.float32)


RULES = [Preprocessing("none"), Preprocessing("zscore"), Preprocessing("window", -40.0, 217.3)]


def test_normalised_and_extended(shim: ctypes.CDLL) -> None:
    rng = np.random.default_rng(11)
    for trial in range(150):
        rank = 2 if trial % 3 else 3
        shape = tuple(int(n) for n in rng.integers(1, 130 if rank == 2 else 24, rank))
        wide = padded_size(shape, tuple(int(n) for n in rng.integers(1, 17, rank)))
        data = values(rng, shape)
        both = np.zeros(2)
        shim.sums(at(data), ctypes.c_uint64(data.size), at(both))
        whole, axes = data[None].astype(np.float64), tuple(range(1, rank + 1))
        assert (both == (whole.mean(axis=axes)[0], whole.std(axis=axes)[0])).all(), f"trial {trial}: {shape}"
        rule = int(rng.integers(3))
        given = rng.normal(size=2) ** 2 if trial % 4 == 0 else None
        moments = None if given is None else ((float(given[0]),), (float(given[1]),))
        expected = pad_to_size(normalize(data[None], RULES[rule], moments), wide)[0]
        pointer = None if given is None else at(given)
        assert shim.rule(
            at(data), ctypes.c_uint64(data.size), rule, number(RULES[rule].low), number(RULES[rule].high), pointer
        )
        found = np.full(wide, np.nan, np.float32)
        assert shim.windows(three(shape), three(wide), number(0.25)) == 1
        shim.cut(at(data), three(shape), three(wide), number(0.25), ctypes.c_uint64(0), at(found), three((9, 9)))
        np.testing.assert_array_equal(found, expected, err_msg=f"trial {trial}: {shape} to {wide}, rule {rule}")


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_moments_of_a_turned_volume_do_not_follow_its_memory(shim: ctypes.CDLL, turn: tuple[int, int, int]) -> None:
    stored = values(np.random.default_rng(3), (23, 37, 31))
    turned = np.flip(stored.transpose(turn), 1)
    found = volume_moments(turned[None], (), Preprocessing("zscore", over="volume"))
    plain, both = np.ascontiguousarray(turned), np.zeros(2)
    shim.sums(at(plain), ctypes.c_uint64(plain.size), at(both))
    assert found == ((both[0],), (both[1],))


def test_resampled(shim: ctypes.CDLL) -> None:
    rng = np.random.default_rng(SEED)
    for trial in range(120):
        rank = 2 if trial % 2 else 3
        size = tuple(int(n) for n in rng.integers(1, 40 if rank == 2 else 14, rank))
        wanted = tuple(
            n if rng.random() < 0.2 else int(m) for n, m in zip(size, rng.integers(1, 40, rank), strict=True)
        )
        data = values(rng, size)
        room = int(np.prod(np.maximum(size, wanted)))
        even, odd, found = np.zeros(room, np.float32), np.zeros(room, np.float32), np.zeros(wanted, np.float32)
        even[: data.size] = data.reshape(-1)
        shim.scale(at(even), at(odd), three(size), three(wanted), at(found))
        np.testing.assert_array_equal(found, resample(data, wanted), err_msg=f"trial {trial}: {size} to {wanted}")


def test_resampled_sizes(shim: ctypes.CDLL) -> None:
    rng = np.random.default_rng(SEED + 1)
    pairs = [
        (1.0, 1.0),
        (0.5, 1.0),
        (0.4883, 0.5),
        (0.48828125, 0.48828125),
        (0.00005, 1.0),
        (1000.0, 0.001),
        (2.0, 0.0),
    ]
    pairs += [(float(rng.uniform(0.01, 8)), float(rng.uniform(0.01, 8))) for _ in range(300)]
    for have, want in pairs:
        samples = int(rng.integers(1, 700))
        assert shim.length(samples, number(have), number(want)) == resampled_size((samples,), (have,), (want,))[0]
    assert shim.length(9, number(0.00001), number(1.0)) == 0  # refused


def test_windows(shim: ctypes.CDLL) -> None:
    rng = np.random.default_rng(SEED + 2)
    several = 0
    for trial in range(60):
        rank = 2 if trial % 2 else 3
        size = tuple(int(n) for n in rng.integers(1, 30 if rank == 2 else 12, rank))
        call = tuple(int(n) for n in rng.integers(1, 14 if rank == 2 else 8, rank))
        overlap = float(rng.choice([0.0, 0.25, 0.5, 0.9, rng.uniform(0, 0.9)]))
        image, seen, made = values(rng, size), [], []

        def run(window: Array) -> Array:
            seen.append(window[0].copy())  # noqa: B023
            made.append(rng.standard_normal(window.shape[1:]).astype(np.float32))  # noqa: B023
            return made[-1][None]  # noqa: B023

        expected = tiled(run, image[None], call, overlap)[0]
        assert shim.windows(three(size), three(call), number(overlap)) == len(seen), f"trial {trial}"
        for index, window in enumerate(seen):
            found = np.zeros(call, np.float32)
            shim.cut(
                at(image), three(size), three(call), number(overlap), ctypes.c_uint64(index), at(found), three((0,))
            )
            np.testing.assert_array_equal(found, window, err_msg=f"trial {trial}, window {index}")
        if len(seen) == 1:
            continue
        several += 1
        whole = tuple(max(a, b) for a, b in zip(size, call, strict=True))
        total, share = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
        shim.blend(at(np.stack(made)), three(size), three(call), number(overlap), at(total), at(share))
        np.testing.assert_array_equal(total[tuple(map(slice, size))], expected, err_msg=f"trial {trial}")
    assert several > 20


# -------------------------------------------------------------------------------------------- geometry


def rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    found, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return found * rng.choice([-1, 1], 3)


def placed(shim: ctypes.CDLL, affine: NDArray[np.float64]) -> tuple[int, str, tuple[float, ...]]:
    spacing, axes = np.zeros(3), ctypes.create_string_buffer(4)
    fault = shim.place(at(np.ascontiguousarray(affine[:3], np.float64)), at(spacing), axes)
    return fault, axes.value.decode(), tuple(spacing)


def test_axes_of_random_affines(shim: ctypes.CDLL) -> None:
    """Rotations, reflections, shears: the codes of nibabel, which finds the nearest rotation by an SVD."""
    rng = np.random.default_rng(SEED + 3)
    codes, sheared = set(), 0
    for trial in range(900):
        affine = np.eye(4)
        directions = rotation(rng)
        if trial % 3 == 0:
            directions = directions @ (np.eye(3) + np.triu(rng.uniform(-0.6, 0.6, (3, 3)), 1))
            sheared += 1
        affine[:3, :3] = directions * rng.uniform(0.2, 6, 3)
        affine[:3, 3] = rng.uniform(-200, 200, 3)
        fault, axes, spacing = placed(shim, affine)
        assert fault == 0
        assert axes == "".join(nibabel.aff2axcodes(affine)), f"trial {trial}: {affine}"
        np.testing.assert_allclose(spacing, spacing_of(affine), rtol=1e-14)
        codes.add(axes)
    assert len(codes) == 48 and sheared == 300


def test_affines_that_map_no_grid(shim: ctypes.CDLL) -> None:
    good = np.eye(4)
    for change, fault in (
        ({(0, 3): np.nan}, 1),
        ({(1, 1): np.inf}, 1),
        ({(2, 2): 0.0}, 2),
        ({(2, 2): 0.0, (0, 2): 1.0}, 3),
    ):
        bad = good.copy()
        for place, entry in change.items():
            bad[place] = entry
        assert placed(shim, bad)[0] == fault
        with pytest.raises(Exception, match="affine"):
            axes_of(bad)


def test_every_turn(shim: ctypes.CDLL) -> None:
    codes = ["".join(letters) for pairs in permutations(("LR", "AP", "SI")) for letters in product(*pairs)]
    size = (2, 3, 4)
    stored = np.arange(24).reshape(size)
    for axes, orientation in product(codes[::5], codes):
        turned = orient(stored, axes, orientation)
        for back in (0, 1):
            found = (ctypes.c_int64 * 4)()
            shim.walk(axes.encode(), orientation.encode(), three(size), back, found)
            walked = turned if back else stored
            places = found[0] + sum(
                np.arange(n).reshape([-1 if a == b else 1 for b in range(3)]) * found[1 + a]
                for a, n in enumerate(walked.shape)
            )
            held = stored if back else np.ascontiguousarray(turned)
            np.testing.assert_array_equal(held.reshape(-1)[places], walked)
        np.testing.assert_array_equal(unorient(turned, axes, orientation), stored)
