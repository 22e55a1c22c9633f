"""Which pictures are kept and what is in them."""

from pathlib import Path

import numpy as np
import pytest

from unetq import overlays
from unetq.overlays import MOST_SLICES, Painter, chosen_slices, display, pictured
from unetq.samples import Sample

LABELS = ("background", "organ")


def case(name: str, slices: int = 3, size: int = 8, first: int = 0) -> list[Sample]:
    rng = np.random.default_rng(len(name))
    return [
        Sample(f"{name}-{k:03d}", name, rng.random((1, size, size)), np.eye(size, dtype=np.uint8), index=first + k)
        for k in range(slices)
    ]


def records(*dice: float | None) -> list[dict]:
    return [{"classes": {"background": {"dice": 1.0}, "organ": {"dice": value}}} for value in dice]


def test_best_median_and_worst_cases() -> None:
    samples = [s for name in ("a", "b", "c", "d", "e") for s in case(name)]
    chosen = pictured(samples, records(0.5, 0.9, 0.1, 0.7, 0.3))
    assert [unit.id for unit in chosen] == ["a", "b", "c"]  # 0.5 is the median, 0.9 the best, 0.1 the worst
    assert [unit.id for unit in pictured(case("a") + case("b"), records(0.5, None))] == ["a", "b"]


def test_the_only_volume_is_one_stack_in_slice_order() -> None:
    samples = case("v", 4, first=20)[::-1]
    (unit,) = pictured(samples, records(*[0.5] * 4))
    assert unit.id == "v" and unit.slices == (20, 21, 22, 23)
    ((name, arrays),) = Painter(samples, [s.label for s in samples], None, LABELS, 0).files(unit)
    assert name == "v" and arrays["slices"].tolist() == [20, 21, 22, 23] and arrays["slices"].dtype == np.int32
    assert set(arrays) == {"image", "truth", "prediction", "slices"}
    assert np.array_equal(arrays["image"], display(np.stack([s.image[0] for s in samples[::-1]])))


def test_at_most_so_many_slices_evenly_over_those_with_something() -> None:
    truth, prediction = np.zeros((100, 4, 4), np.uint8), np.zeros((100, 4, 4), np.uint8)
    truth[30:60, 1, 1] = 1
    prediction[60:80, 2, 2] = 1
    found = chosen_slices(truth, prediction, 0)
    assert len(found) == MOST_SLICES and found[0] == 30 and found[-1] == 79 and set(np.diff(found)) <= {2, 3}
    assert chosen_slices(truth[:5], prediction[:5], 0).tolist() == [0, 1, 2, 3, 4]  # none has: all
    assert chosen_slices(truth[25:33], prediction[25:33], 0).tolist() == [5, 6, 7]
    assert len(chosen_slices(truth, prediction, None)) == MOST_SLICES


def test_neighbour_slices_and_volumes() -> None:
    """Of 2.5-D the slice itself is shown, of a 3-D sample its planes."""
    image = np.stack([np.full((8, 8), v, np.float32) + np.eye(8, dtype=np.float32) * v for v in (1, 2, 3)])
    label = np.eye(8, dtype=np.uint8)
    samples = [Sample("a-0", "a", image, label), Sample("b-0", "b", image, label)]
    painter = Painter(samples, [label, label], None, LABELS, 1)
    (_, arrays), *_ = painter.files(pictured(samples, records(1.0, 0.5))[0])
    assert np.array_equal(arrays["image"], display(image[1:2]))
    deep = [Sample("v", "v", np.stack([image]), np.stack([label] * 3), index=7)]
    ((_, arrays),) = Painter(deep, [np.stack([label] * 3)], [np.stack([label] * 3)], LABELS, 0).files(
        pictured(deep, records(1.0))[0]
    )
    assert arrays["image"].shape == (3, 8, 8) and arrays["slices"].tolist() == [7, 8, 9]
    assert "float_prediction" in arrays


def test_slices_of_different_sizes_are_flat_files() -> None:
    samples = [*case("v", 1, 8), *case("v", 2, 9)[1:]]
    (unit,) = pictured(samples, records(0.5, 0.5))
    found = dict(Painter(samples, [s.label for s in samples], None, LABELS, 0).files(unit))
    assert set(found) == {"v-000", "v-001"} and "slices" not in found["v-000"]
    assert found["v-001"]["image"].shape == (9, 9)


def test_display_spans_the_grey_range() -> None:
    shown = display(np.linspace(-5.0, 900.0, 1000).reshape(10, 100))
    assert (shown.min(), shown.max(), shown.dtype) == (0, 255, np.uint8)
    assert set(np.unique(display(np.full((3, 3), 7)))) == {0}


def test_names_are_safe_and_old_pictures_go(tmp_path: Path) -> None:
    arrays = {name: np.zeros((1, 4, 4), np.uint8) for name in ("image", "truth", "prediction")}
    folder = tmp_path / "overlays" / "test"
    overlays.write(folder, [("old", arrays), (overlays.safe("a/b"), arrays)])
    assert sorted(p.name for p in folder.iterdir()) == ["a_b.npz", "old.npz"]
    (folder / "mine.txt").write_text("mine")
    np.savez(folder / "foreign.npz", image=np.zeros(3), more=np.zeros(3))
    overlays.write(folder, [("new", arrays | {"slices": np.zeros(1, np.int32)})])
    assert sorted(p.name for p in folder.iterdir()) == ["foreign.npz", "mine.txt", "new.npz"]
    with pytest.raises(RuntimeError):
        overlays.write(folder, fails())
    assert sorted(p.name for p in folder.parent.rglob("*") if p.is_file()) == ["foreign.npz", "mine.txt", "new.npz"]


def fails() -> object:
    raise RuntimeError("in the middle")
    yield
