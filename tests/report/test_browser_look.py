"""The page looked at in a real browser: both themes, print, phones, without JavaScript, and what it must not do."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser_visit import Visit

LIGHT, DARK = "rgb(251, 251, 249)", "rgb(18, 23, 27)"


def background(page: Any) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


@pytest.mark.parametrize(("scheme", "expected", "other"), [("light", LIGHT, DARK), ("dark", DARK, LIGHT)])
def test_both_themes(visit: Callable[..., Visit], scheme: str, expected: str, other: str) -> None:
    visited = visit(color_scheme=scheme)
    page = visited.page
    assert background(page) == expected
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    assert background(page) == other  # the system changes, the page follows
    page.emulate_media(color_scheme=scheme)
    button = page.query_selector("#theme")
    assert button.get_attribute("aria-pressed") == str(scheme == "dark").lower()
    button.click()
    assert background(page) == other
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    assert background(page) == other  # chosen by hand: the system no longer decides
    page.reload()
    assert background(page) == other
    visited.asked.pop()  # the reload
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert contrast(ink, paper) > 7
    note = page.evaluate("getComputedStyle(document.querySelector('.note')).color")
    assert contrast(note, paper) > 4.5  # WCAG AA for small text


def contrast(one: str, two: str) -> float:
    """WCAG contrast of two rgb() colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_print_opens_everything_and_drops_controls(visit: Callable[..., Visit]) -> None:
    page = visit(color_scheme="dark").page
    config = page.query_selector("section.run pre")
    assert not config.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert config.is_visible() and page.query_selector(".histogram").is_visible()
    for selector in (".controls", "#theme", "nav", ".pareto .pick"):
        assert not page.query_selector(selector).is_visible(), selector
    assert background(page) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(27, 33, 38)"
    page.emulate_media(media="screen", color_scheme="dark")
    assert not config.is_visible()


def test_nothing_is_wider_than_a_phone(visit: Callable[..., Visit]) -> None:
    page = visit().page
    for width in (360, 768):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_a_screen_reader_needs(visit: Callable[..., Visit]) -> None:
    page = visit().page
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent.trim())"
    )
    assert page.evaluate("[...document.querySelectorAll('button')].every(b => b.textContent.trim() || b.ariaLabel)")
    assert page.evaluate("[...document.querySelectorAll('input')].every(i => i.labels.length === 1)")
    assert page.evaluate("[...document.querySelectorAll('svg[role=img]')].every(s => s.ariaLabel)")
    assert page.evaluate("[...document.querySelectorAll('thead th')].every(t => t.scope)")


def test_without_javascript_everything_can_still_be_read(visit: Callable[..., Visit]) -> None:
    page = visit(java_script_enabled=False).page
    viewer = page.query_selector(".viewer")
    assert viewer.query_selector("figure svg").is_visible() and not viewer.query_selector(".controls").is_visible()
    assert not page.query_selector("#theme").is_visible()
    assert page.query_selector("table.cases").is_visible() and page.query_selector(".plot-1").is_visible()


def test_a_foreign_script_does_not_run(browser: Any, report: Path, tmp_path: Path) -> None:
    """Even if a name slipped through unescaped, the page's policy holds: scripts by hash, no network."""
    text = report.read_text().replace(
        "</h1>", "</h1><script>document.title='taken'</script><img src='http://127.0.0.1:9/x'>", 1
    )
    (tmp_path / "page.html").write_text(text)
    visited = Visit(browser, tmp_path / "page.html")
    assert visited.page.title() != "taken"
    assert sum("Content Security Policy" in line for line in visited.said) >= 2
    visited.context.close()
