"""What is printed, and the history that is kept."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from unetq import progress
from unetq.history import History


def test_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    plain = progress.Plain(stream)
    plain.start("float", 100, 300)
    for step in range(110, 160, 10):
        now[0] += 4.0
        plain.step(step, 0.5)
    plain.validated(150, {"cell": 0.9512}, True)
    plain.stop()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "float: from step 100 of 300"
    # 12 s for 30 steps leaves 170 steps: 68 s.
    assert lines[1] == "float: step 130/300  loss 0.5000  left 0:01:08"
    assert lines[2] == "float: step 150/300  validation Dice cell 95.12  (best)" and len(lines) == 3


def test_live_bar_shows_loss_dice_and_time_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    live = progress.Live(console)
    live.start("quant", 0, 10)
    live.step(5, 0.25)
    live.validated(5, {"cell": 0.5}, False)
    live.note("a [note]")
    live.stop()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("quant", "0.2500", "cell 50.00", "left", "a [note]"):
        assert part in text


def test_pipes_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    assert isinstance(progress.for_terminal(), progress.Plain)


def test_history_is_cut_after_the_checkpoint(tmp_path: Path) -> None:
    history = History(tmp_path, {"float": 0, "quant": 20})
    history.cut("float", 0)
    for step in (10, 20):
        history.add("float", step, 1.0, 0.1, 2.0, None)
    history.cut("quant", 0)
    for step in (10, 20):
        history.add("quant", step, 1.0, 0.1, 2.0, {"cell": 0.5})
    with open(history.path, "a") as handle:
        handle.write('{"stage": "quant", "st')
    history.cut("quant", 10)
    history.close()
    kept = [json.loads(line) for line in history.path.read_text().splitlines()]
    assert [(k["stage"], k["step"]) for k in kept] == [("float", 10), ("float", 20), ("quant", 10)]
    assert kept[2] == {"stage": "quant", "step": 10, "loss": 1.0, "lr": 0.1, "seconds": 2.0, "dice": {"cell": 0.5}}


def test_compiling(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line at the end; on a terminal one that is rewritten."""
    for seconds, finished in ((1.0, False), (12.4, True)):
        progress.count_compiled("library", 14, 31, seconds, finished)
    assert capsys.readouterr().err == "library: compiled 31 files in 12 s\n"
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    for seconds, finished in ((1.0, False), (12.4, True)):
        progress.count_compiled("library", 14, 31, seconds, finished)
    shown = capsys.readouterr().err
    assert shown.startswith("\rlibrary: compiling 14/31, 1 s ") and shown.endswith("\n")
    assert shown.count("\n") == 1 and "compiled 31 files in 12 s" in shown
