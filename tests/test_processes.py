"""Processes that train together part in peace."""

from pathlib import Path

from commands import run_program


def test_the_connection_is_closed_though_its_threads_lag(tmp_path: Path) -> None:
    run_program("closing_program.py", tmp_path)
