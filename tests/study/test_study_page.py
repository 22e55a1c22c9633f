"""The study's page and its text, made of ``study.json`` alone, and looked at in a browser."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_visit import Visit, started
from study_record import study_record, write_study

from unetq.errors import CheckpointError
from unetq.study.page import write_page

CUT_OFF = """() => [...document.querySelectorAll('.chart')].flatMap(s => {
    const a = s.getBoundingClientRect();
    return [...s.querySelectorAll('text, path, circle')].filter(t => {
        const b = t.getBoundingClientRect();
        return b.left < a.left || b.right > a.right || b.top < a.top || b.bottom > a.bottom;
    }).map(t => t.textContent); })"""


def shrinking(arm: str, bits: int) -> float:
    return -0.005 * (5 - math.log2(bits))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three seeds with a gap that shrinks with the bits."""
    return write_page(write_study(tmp_path_factory.mktemp("study"), study_record(gap=shrinking, noise=0.003)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


def test_html_and_markdown_tell_the_same(page: Path) -> None:
    html, text = page.read_text(encoding="utf-8"), page.with_name("study.md").read_text(encoding="utf-8")
    for words in (
        "The lower the bits, the smaller the gap between training and validation.",
        "arXiv 2206.12372", "arXiv 2404.11769", "16 networks a seed", "3 seeds", "Holm",
    ):  # fmt: skip
        assert words in html and words in text, words
    findings = [line for line in text.splitlines() if line.startswith("|") and ("supported" in line)]
    assert len(findings) >= 6 and html.count('class="badge supported"') >= len(findings)
    for line in text.splitlines():
        if line.startswith("| weights quantised | gap of the loss"):
            estimate = line.split(" | ")[2]
            assert estimate.startswith("−0.00") and estimate in html
            break
    else:
        pytest.fail("no finding on the gap")
    assert "None" not in html and "nan" not in html.replace("tenan", "") and "inf" not in text.lower().split()


def test_it_is_whole_and_passes_on_no_path(tmp_path: Path) -> None:
    record = study_record(seeds=1, bits=(4, 2), arms=("weights",))
    record["command"] = "unetq study regularisation /home/someone/private/study.yaml -o /home/someone/OUT"
    record["config"]["data"]["root"] = "/home/someone/data"
    html = write_page(write_study(tmp_path, record)).read_text(encoding="utf-8")
    assert "/home/someone" not in html + (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "") and "<img" not in html
    assert "1 seed has no interval" in html


def test_names_are_escaped(tmp_path: Path) -> None:
    record = study_record(seeds=2, bits=(4,), arms=("weights",))
    record["config"]["data"]["name"] = "<script>alert(1)</script>"
    for run in record["runs"]:
        run["robustness"] = {"<b>fog</b>": {"1": 0.5}}
    html = write_page(write_study(tmp_path, record)).read_text(encoding="utf-8")
    assert "<script>alert" not in html and "<b>fog" not in html and "&lt;b&gt;fog" in html


def test_negative_rises_and_traces_are_drawn_and_counted(tmp_path: Path) -> None:
    record = study_record(seeds=2, bits=(4, 2), arms=("weights",))
    for run in record["runs"]:
        run["sharpness"]["trace"]["value"] *= -1
        if run["twin"] and run["weight_bits"] == 4:
            run["twin"]["rounding"] = -1e-5
    html = write_page(write_study(tmp_path, record)).read_text(encoding="utf-8")
    assert "6 of 6 traces are not positive" in html and re.search("trace of the Hessian [+−]", html)
    assert "2 networks with no rise are not in the plot" in html


def test_a_study_that_is_not_finished(tmp_path: Path) -> None:
    record = study_record(seeds=3, bits=(4, 2), arms=("weights",))
    record["runs"] = [run for run in record["runs"] if run["name"] != "weights-2-s1"]
    for run in record["runs"]:
        run["robustness"], run["bound"] = {}, None
    html = write_page(write_study(tmp_path, record)).read_text(encoding="utf-8")
    assert "weights at 2 bits, seed 1" in html and 'id="robustness"' not in html and "Not tested" in html
    only = study_record(seeds=2, arms=())
    assert "No claim could be tested" in write_page(write_study(tmp_path, only)).read_text(encoding="utf-8")


def test_the_published_numbers_are_those_of_the_record(tmp_path: Path) -> None:
    """The mean over seeds of the table, by hand."""
    record = study_record(seeds=2, bits=(4,), arms=("weights",), noise=0.01)
    write_page(write_study(tmp_path, record))
    dice = [run["dice"]["validation"]["mean"] for run in record["runs"] if run["arm"] == "float"]
    row = next(
        line for line in (tmp_path / "study.md").read_text().splitlines() if line.startswith("| validation Dice (%)")
    )
    half = 12.7062047 * abs(dice[0] - dice[1]) / 2  # Student's at one degree of freedom
    mean = sum(dice) / 2
    assert row.split(" | ")[1] == f"{100 * mean:.2f} ({100 * (mean - half):.2f} to {100 * (mean + half):.2f})"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda record: record.update(schema=2), "schema"),
        (lambda record: record["runs"].append(dict(record["runs"][0], name="again")), "again"),
        (lambda record: record["runs"][1]["dice"]["validation"].update(mean=1.5), "runs.1.dice.validation.mean"),
        (lambda record: record.update(runs=[]), "runs"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, damage: Any, words: str) -> None:
    record = study_record(seeds=1, bits=(4,), arms=("weights",))
    damage(record)
    with pytest.raises(CheckpointError, match=words):
        write_page(write_study(tmp_path, record))
    assert not (tmp_path / "study.html").exists() and not (tmp_path / "study.md").exists()


def test_no_record_and_half_a_record(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no study"):
        write_page(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(study_record(seeds=1))[:500])
    with pytest.raises(CheckpointError, match="cannot be read"):
        write_page(tmp_path)


def test_in_a_browser(browser: Any, page: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.html"
    shutil.copy(page, alone)
    visited = Visit(browser, alone, color_scheme="light")
    found = visited.page
    assert visited.asked == [alone.as_uri()] and not visited.said  # no network, no word of complaint
    paper = found.evaluate("getComputedStyle(document.body).backgroundColor")
    found.query_selector("#theme").click()
    assert found.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    assert len(found.query_selector_all(".chart")) >= 18
    assert found.evaluate("[...document.querySelectorAll('svg[role=img]')].every(s => s.ariaLabel.includes(' bits: '))")
    assert found.evaluate("[...document.querySelectorAll('table')].every(t => t.caption.textContent.trim())")
    assert found.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    assert found.evaluate(CUT_OFF) == []
    for width in (360, 768):
        found.set_viewport_size({"width": width, "height": 800})
        assert found.evaluate("document.documentElement.scrollWidth") <= width
    found.emulate_media(media="print", color_scheme="dark")
    assert found.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not found.query_selector("nav").is_visible() and found.query_selector(".chart").is_visible()
    visited.context.close()
