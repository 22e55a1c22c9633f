"""Masks, charts and ticks."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from unetq.report import overlays, svg
from unetq.report.charts import memory_plots, training_curves
from unetq.report.runs import load_run, load_runs
from unetq.report.table import groups_of

MakeRun = Callable[..., Path]


def test_difference_codes() -> None:
    truth = np.array([[0, 1, 1, 2, 0]], np.uint8)
    prediction = np.array([[0, 1, 2, 0, 1]], np.uint8)
    codes = overlays.difference_codes(truth, prediction, (1, 2))
    assert codes.tolist() == [[overlays.CLEAR, overlays.AGREE, overlays.OTHER, overlays.MISSED, overlays.EXTRA]]
    membrane = overlays.difference_codes(truth, prediction, (0,))
    assert membrane.tolist() == [[overlays.AGREE, overlays.CLEAR, overlays.CLEAR, overlays.EXTRA, overlays.MISSED]]


def test_a_mask_survives_as_png() -> None:
    codes = np.random.default_rng(0).integers(0, 6, (17, 23)).astype(np.uint8)
    gallery = overlays.Gallery()
    key = gallery.add_mask(codes)
    assert gallery.add_mask(codes.copy()) == key and len(gallery.pictures) == 1
    address, width, height = gallery.pictures[key]
    assert (width, height) == (23, 17)
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    rgba = np.asarray(picture.convert("RGBA"))
    assert (rgba[..., 3] == np.frombuffer(overlays.ALPHA, np.uint8)[codes]).all()
    assert (rgba[..., :3] == np.array(overlays.PALETTE, np.uint8)[codes]).all()


@pytest.mark.parametrize(
    ("slices", "ranks"),
    [(1, ["worst"]), (2, ["best", "worst"]), (5, ["best"] * 2 + ["worst"] * 3), (8, ["best"] * 3 + ["worst"] * 3)],
)
def test_best_and_worst(make_run: MakeRun, slices: int, ranks: list[str]) -> None:
    row = groups_of([load_run(make_run("low", slices=slices))])[0].rows[0]
    drawn, views = overlays.slice_views(row, overlays.Gallery())
    assert drawn == "membrane"  # the rarer of two classes
    assert [view.rank for view in views] == ranks
    scores = {score.id: score.mean for score in row.evaluation.slices}
    means = [scores[view.id] for view in views]
    assert means == sorted(means, reverse=True)
    assert means[-1] == min(scores.values())
    assert [panel.title for panel in views[0].panels] == ["image", "truth", "float32", "W4A6, integer"]


def test_charts_are_xml_and_show_every_run(make_run: MakeRun) -> None:
    own = make_run("float", 32, 32)
    metrics = json.loads((own / "metrics.json").read_text())
    metrics["cost"]["weight_bytes"] -= 5000  # BatchNorm folded: not quite the low-bit runs' float_weight_bytes
    (own / "metrics.json").write_text(json.dumps(metrics))
    runs = load_runs([own, make_run("a", 4, 6), make_run("b", 2, 2, error=0.05)])
    group = groups_of(runs)[0]
    plots = memory_plots(group)
    assert len(plots) == len(group.labels)
    for plot in plots:
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
