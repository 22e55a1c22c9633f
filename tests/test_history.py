"""The history file: what a resumed stage keeps of it."""

import json
from pathlib import Path

from unetq.history import History


def test_what_is_no_record_is_dropped(tmp_path: Path) -> None:
    good = [{"stage": "float", "step": 4}, {"stage": "float", "step": 8}]
    bad = ["12", "null", "[1]", '"word"', '{"stage": "float"}', '{"stage": "float", "step": "4"}', '{"stage": "fl', ""]
    path = tmp_path / "history.jsonl"
    path.write_bytes("\n".join([json.dumps(good[0]), *bad, json.dumps(good[1])]).encode() + b"\n\xff\xfe\n")
    history = History(tmp_path, {"float": 0})
    history.cut("float", 8)
    history.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == good
