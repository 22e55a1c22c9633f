"""Masks, charts and ticks."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from case_runs import volume
from PIL import Image

from unetq.errors import CheckpointError
from unetq.report import pictures, svg
from unetq.report.charts import training_curves
from unetq.report.dots import AXES, dots_of, front
from unetq.report.pareto import pareto_plots
from unetq.report.pictures import Gallery
from unetq.report.runs import load_run, load_runs
from unetq.report.table import groups_of
from unetq.report.viewer import viewers

MakeRun = Callable[..., Path]


def test_difference_codes() -> None:
    truth = np.array([[0, 1, 1, 2, 0]], np.uint8)
    prediction = np.array([[0, 1, 2, 0, 1]], np.uint8)
    codes = pictures.difference_codes(truth, prediction, (1, 2))
    assert codes.tolist() == [[pictures.CLEAR, pictures.AGREE, pictures.OTHER, pictures.MISSED, pictures.EXTRA]]
    membrane = pictures.difference_codes(truth, prediction, (0,))
    assert membrane.tolist() == [[pictures.AGREE, pictures.CLEAR, pictures.CLEAR, pictures.EXTRA, pictures.MISSED]]


def test_a_mask_survives_as_png() -> None:
    codes = np.random.default_rng(0).integers(0, 6, (17, 23)).astype(np.uint8)
    gallery = Gallery()
    key = gallery.add_mask(codes)
    assert gallery.add_mask(codes.copy()) == key and len(gallery.pictures) == 1
    stored = gallery.pictures[key]
    assert (stored.width, stored.height) == (23, 17)
    picture = Image.open(io.BytesIO(base64.b64decode(stored.address.partition(",")[2])))
    rgba = np.asarray(picture.convert("RGBA"))
    assert (rgba[..., 3] == np.frombuffer(pictures.ALPHA, np.uint8)[codes]).all()
    assert (rgba[..., :3] == np.array(pictures.PALETTE, np.uint8)[codes]).all()


@pytest.mark.parametrize(
    ("slices", "marks"),
    [(1, []), (2, ["best", "worst"]), (5, ["best", "median", "worst"])],
)
def test_slices_of_one_volume_are_one_viewer(make_run: MakeRun, slices: int, marks: list[str]) -> None:
    row = groups_of([load_run(make_run("low", slices=slices))])[0].rows[0]
    views = viewers([row], Gallery())[0]
    assert len(views) == 1 and views[0].rank == "" and views[0].id == "em"
    view = views[0]
    assert view.drawn == "membrane"  # the rarer of two classes
    assert [frame.number for frame in view.frames] == list(range(20, 20 + slices))
    assert view.titles == ("image", "truth", "float32", "W4A6, integer")
    scores = [score.mean for score in sorted(row.evaluation.slices, key=lambda score: score.id)]
    assert [name for name, _ in view.marks] == marks
    if marks:
        places = dict(view.marks)
        assert scores[places["best"]] == max(scores) and scores[places["worst"]] == min(scores)
        assert view.start == places["worst"]


def test_slices_of_two_sizes_are_two_viewers(make_run: MakeRun) -> None:
    run = make_run("low")
    path = run / "overlays" / "validation" / "em-021.npz"
    with np.load(path) as archive:
        smaller = {name: array[:40] for name, array in archive.items()}
    np.savez_compressed(path, **smaller)
    views = viewers([groups_of([load_run(run)])[0].rows[0]], Gallery())[0]
    assert sorted(tuple(frame.number for frame in view.frames) for view in views) == [(20, 22, 23), (21,)]
    assert len({view.key for view in views}) == 2


def test_cases_are_ranked_and_cut_alike(make_case_run: MakeRun) -> None:
    """The cut is the same for all runs, so that a slice's image is stored once."""
    folders = [make_case_run("a", 8, 8), make_case_run("b", 2, 2, error=0.6)]
    group = groups_of(load_runs(folders))[0]
    gallery = Gallery()
    first, second = viewers(list(group.rows), gallery)
    assert [view.rank for view in first] == ["best", "median", "worst"]
    means = {case.id: case.mean for case in group.rows[0].evaluation.units}
    ranked = sorted(means, key=lambda name: -(means[name] or 0))
    assert [view.id for view in first] == [ranked[0], ranked[3], ranked[6]]
    shared = {view.id: view for view in first}.keys() & {view.id: view for view in second}.keys()
    for name in shared:
        one, two = ({view.id: view for view in views}[name] for views in (first, second))
        assert [frame.panels[0].image for frame in one.frames] == [frame.panels[0].image for frame in two.frames]
        assert (one.width, one.height) == (two.width, two.height)
    assert first[0].frames[0].number == 3  # the numbers of the file, not of the stack
    assert all(view.width < 64 for view in first)  # the foreground with a margin, not the whole slice


def test_a_page_without_room_thins_slices_but_keeps_marks(make_run: MakeRun) -> None:
    row = groups_of([load_run(make_run("low", slices=12))])[0].rows[0]
    whole = viewers([row], Gallery())[0][0]
    thin = viewers([row], Gallery(limit=1))[0][0]
    assert len(whole.frames) == 12 and whole.left_out == 0
    assert len(thin.frames) <= 6 and thin.left_out == 12 - len(thin.frames)
    numbers = {name: thin.frames[place].number for name, place in thin.marks}
    assert numbers == {name: whole.frames[place].number for name, place in whole.marks}


def test_what_is_found_far_from_the_truth_is_said(make_case_run: MakeRun) -> None:
    folder = make_case_run("low", cases=1)
    plain = viewers([groups_of([load_run(folder)])[0].rows[0]], Gallery())[0][0]
    path = folder / "overlays" / "validation" / "sub-01.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["prediction"][0, 1:3, 2] = 1
    np.savez_compressed(path, **arrays)
    wrong = viewers([groups_of([load_run(folder)])[0].rows[0]], Gallery())[0][0]
    assert (wrong.width, wrong.height) == (plain.width, plain.height)
    before, after = (view.frames[0].panels[-1].note for view in (plain, wrong))
    extra = int(before.split(", ")[1].split()[0])
    assert after.endswith(f"{extra + 2} px extra (2 outside the picture)") and "outside" not in before


def test_runs_that_stored_other_slices_share_the_cut(make_case_run: MakeRun) -> None:
    """The truth of all of them decides, whichever comes last."""
    one, two = make_case_run("one", cases=1), make_case_run("two", 2, 2, cases=1)
    path = two / "overlays" / "validation" / "sub-01.npz"
    with np.load(path) as archive:
        narrow = {name: array[:1] for name, array in archive.items()}
    np.savez_compressed(path, **narrow)
    first, second = (views[0] for views in viewers(list(groups_of(load_runs([one, two]))[0].rows), Gallery()))
    assert (first.width, first.height) == (second.width, second.height)
    assert first.frames[0].panels[0].image == second.frames[0].panels[0].image
    alone = viewers([groups_of([load_run(two)])[0].rows[0]], Gallery())[0][0]
    assert alone.width < second.width


@pytest.mark.parametrize("damage", ["slices", "count", "empty", "float shape"])
def test_damaged_stacks_are_named(make_case_run: MakeRun, damage: str) -> None:
    folder = make_case_run("low", cases=1)
    path = folder / "overlays" / "validation" / "sub-01.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    if damage == "slices":
        arrays["slices"] = arrays["slices"].astype(np.float32)
    elif damage == "count":
        arrays["slices"] = arrays["slices"][1:]
    elif damage == "empty":
        arrays = {name: array[:0] for name, array in arrays.items()}
    else:
        arrays["float_prediction"] = arrays["float_prediction"][:, 1:]
    np.savez_compressed(path, **arrays)
    with pytest.raises(CheckpointError, match=r"sub-01\.npz"):
        viewers([groups_of([load_run(folder)])[0].rows[0]], Gallery())


def test_large_slices_shrink_and_masks_stay_masks() -> None:
    image, truth = (stack[0] for stack in volume(1, 1, 640))
    small, codes = pictures.shrink_image(image), pictures.shrink_codes(truth * np.uint8(3))
    assert small.shape == codes.shape == (320, 320)
    assert set(np.unique(codes)) <= {0, 3}
    assert float(np.mean(codes == 3)) == pytest.approx(float(np.mean(truth)), rel=0.02) and truth.any()
    assert abs(float(small.mean()) - float(image.mean())) < 1.0
    assert pictures.shrunk_size(100, 1000) == (32, 320) and pictures.shrunk_size(64, 32) == (64, 32)


def test_charts_are_xml_and_show_every_run(make_run: MakeRun) -> None:
    own = make_run("float", 32, 32)
    metrics = json.loads((own / "metrics.json").read_text())
    metrics["cost"]["weight_bytes"] -= 5000  # BatchNorm folded: not quite the low-bit runs' float_weight_bytes
    (own / "metrics.json").write_text(json.dumps(metrics))
    runs = load_runs([own, make_run("a", 4, 6), make_run("b", 2, 2, error=0.05)])
    group = groups_of(runs)[0]
    found = pareto_plots(group)
    assert [axis.key for axis, _ in found] == ["memory", "operations"]  # these runs have no latency
    for _, plots in found:
        assert len(plots) == len(group.labels)
    for plot in found[0][1]:
        root = ElementTree.fromstring(plot)
        assert len(root.findall("circle")) == 3  # the float reference of a and b is the float run itself
        names = [element.text for element in root.findall("text")]
        assert {"float32", "W4A6", "W2A2"} <= set(names)
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for dot in root.findall("circle"):
            assert 0 < float(dot.attrib["cx"]) < width and 0 < float(dot.attrib["cy"]) < height
    for chart in training_curves(runs[1].history, group.labels):
        ElementTree.fromstring(chart)
    assert training_curves((), group.labels) == []


def test_the_front_and_its_axes(make_case_run: MakeRun) -> None:
    folders = [
        make_case_run("float", 32, 32),
        make_case_run("w8a8", 8, 8, error=0.16),
        make_case_run("w4a6-bad", 4, 6, error=0.9),
        make_case_run("w2a2", 2, 2, error=0.5),
    ]
    group = groups_of(load_runs(folders))[0]
    assert [axis.key for axis, _ in pareto_plots(group)] == ["memory", "operations", "latency"]
    for axis in AXES:
        dots = dots_of(group, "grey matter", axis)
        assert {dot.name for dot in dots} == {"float32", "W8A8", "W4A6", "W2A2"}
        best = front(dots)
        assert "W4A6" not in [dot.name for dot in best] and best[0].name == "W2A2"
        assert [dot.x for dot in best] == sorted(dot.x for dot in best)
        assert [dot.dice for dot in best] == sorted(dot.dice for dot in best)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1000, ["0", "200", "400", "600", "800", "1000"]),
        (93.1, 95.2, ["93.5", "94.0", "94.5", "95.0"]),
        (-1, 1, ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_ticks(low: float, high: float, expected: list[str]) -> None:
    ticks = svg.nice_ticks(low, high)
    assert [svg.tick_text(tick, ticks) for tick in ticks] == expected
    assert svg.nice_ticks(2.0, 2.0) == [2.0]
