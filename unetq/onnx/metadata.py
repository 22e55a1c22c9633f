"""What an ONNX model of ours knows beside its arithmetic, as one JSON text in its ``metadata_props``."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError, ModelFileError
from ..export.program import ModelMeta, Preprocessing, Triple

KEY = "unetq"
SCHEMA = 1


@dataclass(frozen=True)
class OnnxMeta:
    """``meta`` as in a ``.uqm`` file; sizes as in ``Program``; ``data`` is the data set's name and options."""

    meta: ModelMeta
    spatial_rank: int
    input_multiple: Triple
    fixed_size: Triple | None = None
    data: dict[str, Any] = field(default_factory=dict)


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    normalize: Literal["none", "zscore", "window"]
    low: float
    high: float
    over: Literal["image", "volume"] = "image"
    orientation: str = ""
    spacing: tuple[float, ...] = ()
    context: int = Field(default=0, ge=0)
    window: tuple[int, ...] = ()
    overlap: float = Field(default=0.25, ge=0.0, le=0.9)


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    name: str
    labels: list[str] = Field(min_length=2)
    label_values: list[int]
    preprocessing: _Rule
    provenance: dict[str, Any]
    spatial_rank: int = Field(ge=2, le=3)
    input_multiple: tuple[int, int, int]
    fixed_size: tuple[int, int, int] | None
    data: dict[str, Any]


def to_text(meta: OnnxMeta) -> str:
    """JSON with sorted keys, so that equal metas give equal bytes.

    Raises:
        ConfigError: a provenance that is no JSON.
    """
    m = meta.meta
    values = {
        "schema": SCHEMA,
        "name": m.name,
        "labels": list(m.labels),
        "label_values": list(m.label_values),
        "preprocessing": asdict(m.preprocessing),
        "provenance": m.provenance,
        "spatial_rank": meta.spatial_rank,
        "input_multiple": list(meta.input_multiple),
        "fixed_size": None if meta.fixed_size is None else list(meta.fixed_size),
        "data": meta.data,
    }
    try:
        return json.dumps(values, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"provenance: it must be plain JSON without NaN ({error}); remove what is not.") from error


def from_text(text: str | None, where: str) -> OnnxMeta:
    """Back from ``to_text``; ``where`` names the file in messages.

    Raises:
        ModelFileError: no such text, or one that says something impossible.
    """
    if text is None:
        raise ModelFileError(
            f"{where}: an ONNX model, but without unetq's metadata: its preprocessing and labels are not known. "
            "Use a file that `unetq export RUN --onnx` wrote."
        )
    try:
        found = _Text.model_validate(json.loads(text))
        rule = Preprocessing(**found.preprocessing.model_dump())
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the whole"
        raise ModelFileError(
            f"{where}: its metadata is damaged ({key}: {problem['msg'].lower()}); export again."
        ) from None
    except ValueError as error:
        raise ModelFileError(f"{where}: its metadata is damaged ({error}); export again.") from None
    sizes = [*found.input_multiple, *(found.fixed_size or (1,))]
    if len(found.labels) != len(found.label_values) or min(sizes) < 1:
        raise ModelFileError(
            f"{where}: its metadata is damaged ({len(found.labels)} labels, {len(found.label_values)} values, "
            f"sizes {sizes}); export again."
        )
    meta = ModelMeta(found.name, tuple(found.labels), tuple(found.label_values), rule, found.provenance)
    return OnnxMeta(meta, found.spatial_rank, found.input_multiple, found.fixed_size, found.data)
