"""What all tests share: one seed, quiet plots, the way to real data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Examples follow from the test's own text, so that a failure comes back on every machine.
settings.register_profile("unetq", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("unetq")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("em")`` is the folder of that real data set; the test is skipped where there is none."""

    def find(name: str) -> Path:
        places = [Path(os.environ["UNETQ_DATA"])] if os.environ.get("UNETQ_DATA") else []
        places += [ROOT / "data", ROOT.parent / "shared" / "data"]
        for place in places:
            if (place / name).is_dir():
                return place / name
        pytest.skip(f"no real {name} data in {', '.join(map(str, places))}; put it there or set UNETQ_DATA")

    return find
