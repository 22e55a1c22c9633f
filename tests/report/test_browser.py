"""The page used in a real browser: sliders, buttons, keys, sorting, the choice of a plot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browser_visit import Visit
from case_runs import write_case_run

from unetq.report import build

GREY = "grey matter"


def shown(viewer: Any) -> list[tuple[str, ...]]:
    """What each panel of a viewer draws: keys of its image and mask."""
    return [
        tuple(use.get_attribute("href") for use in figure.query_selector_all("use"))
        for figure in viewer.query_selector_all("figure")
    ]


def pixels(page: Any, viewer: Any) -> bytes:
    picture: bytes = viewer.query_selector(".panels").screenshot()
    return picture


def test_the_slider_moves_every_picture(visit: Callable[..., Visit]) -> None:
    page = visit().page
    viewer = page.query_selector_all(".viewer")[3]  # the best case of the second run
    slider = viewer.query_selector(".slices")
    slider.scroll_into_view_if_needed()
    slider.focus()
    page.keyboard.press("Home")
    before, name, drawn = shown(viewer), viewer.query_selector(".slice-name").inner_text(), pixels(page, viewer)
    assert len(before) == 4 and name == "slice 3 (1 of 5)"
    page.keyboard.press("ArrowRight")
    after = shown(viewer)
    assert viewer.query_selector(".slice-name").inner_text() == "slice 4 (2 of 5)"
    assert slider.get_attribute("aria-valuetext").startswith("slice 4, Dice")
    assert all(one != two for one, two in zip(before, after, strict=True))
    assert pixels(page, viewer) != drawn
    page.keyboard.press("ArrowLeft")
    assert shown(viewer) == before and pixels(page, viewer) == drawn
    slider.fill("4")  # as a drag to the end leaves it
    assert viewer.query_selector(".slice-name").inner_text() == "slice 7 (5 of 5)"
    others = page.query_selector_all(".viewer")[4]
    assert others.query_selector(".slice-name").inner_text() != "slice 7 (5 of 5)"  # each viewer by itself


def test_buttons_jump_to_the_best_and_worst_slice(visit: Callable[..., Visit]) -> None:
    page = visit().page
    viewer = page.query_selector_all(".viewer")[3]
    dice = {}
    for button in viewer.query_selector_all(".jump"):
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        dice[button.inner_text()] = float(viewer.query_selector(".slice-text").inner_text().split(GREY)[1].split()[0])
    assert dice["best"] >= dice["median"] >= dice["worst"] and dice["best"] > dice["worst"]


def test_masks_fade_and_go(visit: Callable[..., Visit]) -> None:
    page = visit().page
    viewer = page.query_selector(".viewer")
    whole = pixels(page, viewer)
    viewer.query_selector(".opacity").fill("30")
    faded = pixels(page, viewer)
    viewer.query_selector("input.masks").uncheck()
    bare = pixels(page, viewer)
    assert len({whole, faded, bare}) == 3
    viewer.query_selector("input.masks").check()
    viewer.query_selector(".opacity").fill("100")
    assert pixels(page, viewer) == whole


def test_a_picture_can_be_enlarged_and_moved_by_keys(visit: Callable[..., Visit]) -> None:
    page = visit().page
    viewer = page.query_selector(".viewer")
    picture = viewer.query_selector_all("button.picture")[2]
    narrow = picture.bounding_box()["width"]
    picture.focus()
    page.keyboard.press("Enter")
    assert picture.bounding_box()["width"] > 1.5 * narrow and picture.get_attribute("aria-pressed") == "true"
    assert not viewer.query_selector_all("figure")[0].is_visible()
    name = viewer.query_selector(".slice-name").inner_text()
    page.keyboard.press("ArrowRight")
    assert viewer.query_selector(".slice-name").inner_text() != name
    page.keyboard.press("Escape")
    assert viewer.query_selector_all("figure")[0].is_visible()
    assert picture.get_attribute("aria-pressed") == "false"


def column(table: Any, index: int) -> list[str]:
    return [row.query_selector_all("th, td")[index].inner_text() for row in table.query_selector_all("tbody tr")]


def test_sorting_by_numbers_and_by_text(visit: Callable[..., Visit]) -> None:
    page = visit().page
    table = page.query_selector_all("table.cases")[2]
    headings = table.query_selector_all("th[data-column]")
    titles = [heading.inner_text().strip() for heading in headings]
    assert titles[:6] == ["case", "site", "slices", "W2A2", "float", "change"]
    names = column(table, 0)
    assert names == sorted(names)

    def press(title: str) -> Any:
        heading = headings[titles.index(title)]
        heading.query_selector("button").click()
        return heading

    heading = press("W2A2")
    assert heading.get_attribute("aria-sort") == "ascending"
    dice = [float(text) for text in column(table, 3)]
    assert dice == sorted(dice) and column(table, 0) != names
    press("W2A2")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(table, 3)] == sorted(dice, reverse=True)
    heading = press("change")  # with a true minus, which is no number to a naive sort
    assert headings[3].get_attribute("aria-sort") == "none" and heading.get_attribute("aria-sort") == "ascending"
    changes = [float(text.replace("−", "-").replace("±", "")) for text in column(table, 5)]
    assert changes == sorted(changes) and changes[0] < 0
    press("site")
    sites = column(table, 1)
    assert sites == sorted(sites) and len(set(sites)) == 2
    headings[0].query_selector("button").focus()
    page.keyboard.press("Enter")
    assert column(table, 0) == names
    assert table.query_selector("tfoot th").inner_text() == "mean over cases"


def test_unknown_values_sort_last_both_ways(browser: Any, tmp_path: Path) -> None:
    run = write_case_run(tmp_path / "gm")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["splits"]["validation"]["integer"]["cases"][2]["classes"][GREY]["hd95_mm"] = None
    (run / "metrics.json").write_text(json.dumps(metrics))
    visited = Visit(browser, build([run], tmp_path / "report"))
    table = visited.page.query_selector("table.cases")
    heading = next(h for h in table.query_selector_all("th[data-column]") if "HD95" in h.inner_text())
    place = int(heading.get_attribute("data-column"))
    for _ in range(2):
        heading.query_selector("button").click()
        assert column(table, place)[-1] == "–" and column(table, 0)[-1] == "sub-03"
    assert visited.said == []
    visited.context.close()


def test_the_plot_is_chosen_by_its_axis(visit: Callable[..., Visit]) -> None:
    page = visit().page
    labels = page.query_selector_all(".pareto .pick + label")
    assert [label.inner_text() for label in labels] == ["memory", "bit-operations", "latency"]
    for number, label in enumerate(labels, 1):
        label.click()
        visible = [bool(page.query_selector(f".plot-{n}").is_visible()) for n in (1, 2, 3)]
        assert visible == [n == number for n in (1, 2, 3)]
    page.keyboard.press("ArrowLeft")
    assert page.query_selector(".plot-2").is_visible()
