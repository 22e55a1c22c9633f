"""What a worker is told: the network, the image and the folder where the files of all workers lie."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..fixedpoint import F32
from .images import images

CALIBRATION_IMAGES = 8
INPUT, OUTPUT = "image", "logits"  # names in the ONNX file


@dataclass(frozen=True)
class Job:
    """One benchmark as every worker sees it.

    Attributes:
        folder: scratch of this benchmark; files of one contender start with its name.
        network: "s", "l", or the path of a run folder or a ``.uqm`` file.
        size: (H, W) or (D, H, W).
        cap: the name of the instruction-set cap.
        option: what tells contenders of one kind apart, such as "w4a6".
    """

    folder: Path
    network: str
    channels: int
    size: tuple[int, ...]
    threads: int = 1
    cap: str = "none"
    seed: int = 0
    option: str = ""

    def file(self, name: str) -> Path:
        """A file in the scratch folder."""
        return self.folder / name

    def calibration(self) -> F32:
        """(N, C, …) images to calibrate with."""
        return images(CALIBRATION_IMAGES, self.channels, self.size, self.seed)

    def input(self) -> F32:
        """(1, C, …) the image that is timed; none of those to calibrate with."""
        return images(1, self.channels, self.size, self.seed + 1)

    def reference(self) -> F32 | None:
        """The float network's logits for ``input``; None where there is no float network."""
        path = self.file("reference.npy")
        return np.load(path) if path.exists() else None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self) | {"folder": str(self.folder)})

    @staticmethod
    def from_json(text: str) -> "Job":
        """The inverse of ``to_json``."""
        values: dict[str, Any] = json.loads(text)
        values["folder"], values["size"] = Path(values["folder"]), tuple(values["size"])
        return Job(**values)
