"""One run of a sweep in a process of its own: ``python -m unetq.sweep_worker JOB.json`` trains and evaluates.

What happened goes to the job's answer file as JSON: ``dice`` a split and label, or ``error``. The exit code is that
of ``unetq train``; 130 after an interruption that left everything saved.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from . import files
from .errors import UnetqError

INTERRUPTED = 130


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train (or go on, or only evaluate); the volume Dice of each split and label.

    Raises:
        UnetqError, KeyboardInterrupt: as ``train`` and ``evaluate``.
    """
    from .config import build
    from .progress import for_terminal

    experiment, out, progress = build(job["experiment"]), Path(job["out"]), for_terminal()
    from .evaluate import evaluate  # these take seconds
    from .runs import set_evaluation
    from .train import train

    if job["standing"] == "evaluate":
        set_evaluation(out, experiment.evaluation)
    else:
        train(experiment, out, resume=job["standing"] == "resume", progress=progress, command=job["command"])
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return {}  # one of several processes scores
    data = Path(experiment.data.root) if experiment.data.root else None
    found: dict[str, Any] = {}
    for split in job["splits"]:
        progress.note(f"evaluating on the {split} split")
        arithmetics = evaluate(out, split, data=data)["splits"][split]
        found[split] = arithmetics["float" if experiment.quant.is_float else "integer"]["volume_dice"]
    return found


def main(path: Path) -> int:
    """Do the job in ``path``; the exit code."""
    # A shell that starts the sweep in its background has it ignore Ctrl-C; what the sweep sends here is meant.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    answer: dict[str, Any]
    try:
        answer, code = {"dice": run(job)}, 0
    except UnetqError as error:
        answer, code = {"error": str(error)}, error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # a fault of ours or of a library: the sweep names it and goes on
        traceback.print_exc()
        answer, code = {"error": f"{type(error).__name__}: {error}"}, 1
    if os.environ.get("LOCAL_RANK", "0") == "0":
        files.write_json(Path(job["answer"]), answer)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
