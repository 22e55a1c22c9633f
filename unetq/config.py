"""The experiment, typed: defaults here, a YAML file for what differs, ``--set key=value`` on top.

An unknown key is an error that names the nearest known one. YAML is read by safe loaders only.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
)

from .errors import ConfigError
from .experiment import DataConfig, Experiment, NetworkConfig, PreprocessingConfig


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys.extend(_known_keys(kind, f"{prefix}{name}."))
    return keys


KNOWN_KEYS = tuple(_known_keys(Experiment))
"""Every dotted key of an experiment."""


def _nearest_key(key: str) -> str:
    """The known key closest to ``key``: a whole-path match first, then by its last part."""
    if close := get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.75):
        return close[0]
    tails: dict[str, str] = {}
    for known in KNOWN_KEYS:
        tails.setdefault(known.rsplit(".", 1)[-1], known)
    close = get_close_matches(key.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.0)
    return tails[close[0]]


def build(values: Mapping[str, Any], source: str = "the config") -> Experiment:
    """Nested ``values`` over the defaults.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range; the message names the key.
    """
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, source)) from None
    train = experiment.train
    if train.from_run and train.from_scratch and not train.distill.is_on:  # else that run is the teacher
        raise ConfigError(
            "train.from_run and train.from_scratch are both set; a run starts from one of them. Drop the other."
        )
    if experiment.train.loss.dice == experiment.train.loss.ce == 0:
        raise ConfigError(
            "train.loss.dice = train.loss.ce = 0: there is nothing to learn from; give at least one a weight."
        )
    window = experiment.data.preprocessing
    if window is not None and window.low is not None and window.high is not None and not window.low < window.high:
        raise ConfigError(
            f"data.preprocessing.low = {window.low}: it must be below high = {window.high}; widen the window."
        )
    data = experiment.data
    axes = data.dimensions
    rule = data.preprocessing or PreprocessingConfig()
    crop = experiment.train.crop
    lengths = {"train.crop": crop, "data.preprocessing.window": rule.window, "data.preprocessing.spacing": rule.spacing}
    for key, value in lengths.items():
        if isinstance(value, list) and value and len(value) != axes:
            raise ConfigError(
                f"{key} = {value}: a network of {axes} dimensions (data.dimensions) takes {axes} numbers, "
                f"{'slices, ' if axes == 3 else ''}rows and columns; give as many."
            )
    if data.fold is not None and data.folds == 1:
        raise ConfigError("data.folds = 1: cross-validation has at least 2 folds, or 0 for one each; change it.")
    if data.fold is not None and data.folds and data.fold >= data.folds:
        raise ConfigError(f"data.fold = {data.fold} of {data.folds}: folds are 0 to {data.folds - 1}; choose one.")
    return experiment


def _explain(error: ValidationError, source: str) -> str:
    sentences: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in problem["loc"]) or "the whole config"
        if problem["type"] == "extra_forbidden":
            sentences.append(f"unknown key {key!r} in {source}; did you mean {_nearest_key(key)!r}?")
        else:
            rule = problem["msg"].removeprefix("Value error, ")
            if problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
                rule = "it is a section and holds keys with values; set single keys of it, or leave it out"
            sentences.append(f"{key} = {_as_yaml(problem['input'])} in {source}: {rule[0].lower()}{rule[1:]}.")
    return " ".join(sentences)


def _as_yaml(value: Any) -> str:
    """A value as a user would write it."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False, allow_unicode=True)
    except yaml.YAMLError:
        return repr(value)
    return str(text).removesuffix("...\n").strip()


class _OnceLoader(yaml.SafeLoader):
    """Safe YAML in which a key comes once: of two sections ``data`` the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} comes twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, _OnceLoader)  # a safe loader, too
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}. Correct the file.") from None
    if values is None:
        raise ConfigError(
            f"{source} is empty: a config names at least its data set, such as `data: {{name: em}}`. Write that; {{}} "
            "stands for the defaults alone."
        )
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source} holds a {type(values).__name__}; a config is a mapping of keys to values. Correct the file."
        )
    return values


def _shipped_folder() -> Any:
    try:
        return resources.files("unetq_configs")
    except ModuleNotFoundError:
        return Path(__file__).resolve().parent.parent / "configs"


def shipped_configs() -> dict[str, str]:
    """Names and YAML texts of the configs that come with the package."""
    folder = _shipped_folder()
    if not folder.is_dir():
        return {}
    entries = sorted(folder.iterdir(), key=lambda entry: str(entry.name))
    return {e.name.removesuffix(".yaml"): e.read_text(encoding="utf-8") for e in entries if e.name.endswith(".yaml")}


def read_config(name: str) -> dict[str, Any]:
    """The values of a config: a path to a YAML file, or the name of a shipped one.

    Raises:
        ConfigError: no such file or name, or not a YAML mapping.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            return _read_yaml(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigError(f"cannot read the config {name}: {reason}. Check the path.") from None
    shipped = shipped_configs()
    if name in shipped:
        return _read_yaml(shipped[name], f"config {name!r}")
    close = get_close_matches(name, list(shipped), n=1, cutoff=0.0)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"config {name!r} is not known; {hint}There are {', '.join(shipped) or 'none'}; "
        "a file of your own ends in .yaml."
    )


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``key=value`` strings (dotted keys, YAML values) as nested values, to be laid over others by ``overlay``.

    ``network.options={…}`` stands for all options, ``network.options.widths=[…]`` for one; ``data`` likewise.

    Raises:
        ConfigError: no ``=``, an unknown key, or a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set {setting!r}: a setting is key=value, such as train.lr=0.001; write it so.")
        free = key.startswith(("data.options.", "network.options."))
        if not free and key not in KNOWN_KEYS:
            raise ConfigError(f"--set {key}: unknown key; did you mean {_nearest_key(key)!r}?")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}: {text!r} is not valid YAML: {' '.join(str(error).split())}.") from None
        if key in ("data.options", "network.options") and isinstance(value, dict):
            value = _Whole(value)
        nested = merge(nested, _nest(key, value))
    return nested


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


class _Whole(dict[str, Any]):
    """A mapping that replaces the one below it."""


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``: mappings join key by key, everything else replaces."""
    merged = _Whole(base) if isinstance(base, _Whole) else dict(base)
    for key, value in top.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and not isinstance(value, _Whole)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]  # `both` narrows old
    return merged


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``merge`` for layers of an experiment: another network or data set drops the options of the one below."""
    kept = dict(base)
    for section, default in (("network", NetworkConfig().name), ("data", DataConfig().name)):
        low, high = kept.get(section), top.get(section)
        if isinstance(low, Mapping) and isinstance(high, Mapping):
            name = low.get("name", default)
            if high.get("name", name) != name:
                kept[section] = {key: value for key, value in low.items() if key != "options"}
    return merge(kept, top)


def load_experiment(name: str, settings: Sequence[str] = (), overrides: Mapping[str, Any] | None = None) -> Experiment:
    """A config by name or path, ``--set`` settings over it, and ``overrides`` (command-line flags) over both.

    Raises:
        ConfigError: whatever cannot be used, with the key's name.
    """
    values = overlay(overlay(read_config(name), parse_settings(settings)), overrides or {})
    return build(values, f"config {name!r}")


def to_yaml(experiment: Experiment) -> str:
    """The merged experiment, every key written out."""
    return str(yaml.safe_dump(experiment.model_dump(), sort_keys=False))


MAY_DIFFER = frozenset(
    {"data.root", "train.accelerator", "train.devices", "train.strategy", "train.threads", "train.checkpoint_every"}
)
"""Keys that a resumed run may change, beside those of ``evaluation``: they say where and how, not what."""
EVALUATION = "evaluation"


def may_differ(key: str) -> bool:
    """Whether a run may go on with another value of ``key``: it decides nothing of what is trained."""
    return key in MAY_DIFFER or key.startswith(f"{EVALUATION}.")


def differences(a: Experiment, b: Experiment) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""

    def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in values.items():
            path = prefix + key
            if isinstance(value, Mapping) and value and not path.endswith("options"):
                out.update(flat(value, f"{path}."))
            else:
                out[path] = value
        return out

    left, right = flat(a.model_dump()), flat(b.model_dump())
    keys = [*left, *(k for k in right if k not in left)]
    return {k: (left.get(k), right.get(k)) for k in keys if left.get(k) != right.get(k)}
