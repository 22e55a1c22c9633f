"""The experiment: defaults, files, settings, and errors that name the nearest key."""

from pathlib import Path

import pytest

from unetq import config
from unetq.errors import ConfigError


def test_every_shipped_config_is_valid() -> None:
    names = config.shipped_configs()
    assert {"em", "em-paper", "phantom"} <= set(names)
    for name in names:
        experiment = config.load_experiment(name)
        assert config.differences(experiment, config.build(experiment.model_dump())) == {}


def test_em_is_the_main_job() -> None:
    em = config.load_experiment("em")
    assert (em.data.name, em.network.name, em.network.options) == ("em", "paper", {})
    assert (em.quant.weight_bits, em.quant.act_bits) == (4, 6)
    assert em.train.float_steps >= 1000 and em.train.quant_steps >= 500


def test_yaml_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train: {lr: 0.5}\nquant: {act_bits: 3}\n")
    experiment = config.load_experiment(
        str(path), ["network.options.widths=[4, 8]", "train.lr=1e-2"], {"quant": {"weight_bits": 2}}
    )
    assert experiment.train.lr == 0.01 and experiment.quant.act_bits == 3 and experiment.quant.weight_bits == 2
    assert experiment.network.options == {"widths": [4, 8]}
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml(experiment))
    assert config.load_experiment(str(again)) == experiment


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("train.lrr=1", "train.lr"),
        ("quant.weight_bit=4", "quant.weight_bits"),
        ("weight_bits=4", "quant.weight_bits"),
        ("train.optimiser=sgd", "train.optimizer"),
        ("seeds=1", "seed"),
    ],
)
def test_unknown_setting_names_the_nearest(setting: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{nearest}'"):
        config.parse_settings([setting])


def test_unknown_key_in_a_file_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("quant: {wieght_bits: 4}\n")
    with pytest.raises(ConfigError, match=r"'quant.wieght_bits'.*mine.yaml.*'quant.weight_bits'"):
        config.load_experiment(str(path))


@pytest.mark.parametrize("bits", [0, -1, 9, 16, 31, 33])
@pytest.mark.parametrize("key", ["weight_bits", "act_bits", "first_bits", "last_bits"])
def test_bits_out_of_range(key: str, bits: int) -> None:
    with pytest.raises(ConfigError, match=rf"quant\.{key} = {bits}.*1 to 8, or 32"):
        config.build({"quant": {key: bits}})


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 32])
def test_bits_in_range(bits: int) -> None:
    assert config.build({"quant": {"weight_bits": bits}}).quant.weight_bits == bits


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("train.lr=0", "greater than 0"),
        ("train.lr=.inf", "finite"),
        ("train.batch=2.5", "integer"),
        ("train.precision=16", "bf16"),
        ("train.optimizer=lion", "adamw"),
        ("quant.freeze_after=2", "less than or equal to 1"),
        ("quant=3", "quant = 3"),
        ("seed=-1", "greater than or equal to 0"),
        ("train.loss={dice: 0, ce: 0}", "nothing to learn"),
        ("data.preprocessing={normalize: window, low: 2, high: 1}", "below high"),
    ],
)
def test_values_out_of_range(setting: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        config.build(config.parse_settings([setting]))


@pytest.mark.parametrize("setting", ["train.lr", "=3", "train.lr=[1", "train.lr={"])
def test_settings_that_are_none(setting: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        config.parse_settings([setting])


def test_two_starting_points() -> None:
    with pytest.raises(ConfigError, match="Drop the other"):
        config.build({"train": {"from_run": "x", "from_scratch": True}})


def test_unknown_name_and_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'phantom'"):
        config.read_config("phanton")
    with pytest.raises(ConfigError, match="No such file"):
        config.read_config(str(tmp_path / "none.yaml"))
    for text, rule in (
        ("a: [1", "not valid YAML"),
        ("- 1", "holds a list"),
        ("!!python/object:os.system {}", "not valid YAML"),
    ):
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=rule):
            config.read_config(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.read_config(str(path))


def test_differences_are_dotted() -> None:
    a, b = config.build({}), config.build({"train": {"lr": 0.1}, "network": {"options": {"widths": [1, 2]}}})
    assert config.differences(a, b) == {"train.lr": (0.001, 0.1), "network.options": ({}, {"widths": [1, 2]})}


@pytest.mark.parametrize("text", ["32", "'32'"])
def test_precision_as_the_messages_write_it(text: str) -> None:
    assert config.build(config.parse_settings([f"train.precision={text}"])).train.precision == "32"


@pytest.mark.parametrize(
    "key",
    [
        "quant.weight_bits",
        "quant.act_bits",
        "train.batch",
        "train.lr",
        "train.threads",
        "seed",
        "train.from_run",
        "train.precision",
        "train.loss.ce",
        "quant.freeze_after",
    ],
)
@pytest.mark.parametrize("value", ["true", "false"])
def test_truth_is_no_number(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} = {value} in .*true and false are no value"):
        config.build(config.parse_settings([f"{key}={value}"]))


@pytest.mark.parametrize("setting", ["train=null", "quant=3", "data.preprocessing=[1]", "data.options=null"])
def test_a_section_is_not_a_value(setting: str) -> None:
    key, _, value = setting.partition("=")
    with pytest.raises(ConfigError) as caught:
        config.build(config.parse_settings([setting]))
    assert str(caught.value).startswith(f"{key} = {value} in ") and "is a section" in str(caught.value)
    assert "Config" not in str(caught.value) and "instance" not in str(caught.value)


def test_another_network_drops_the_options_of_the_layer_below(tmp_path: Path) -> None:
    assert config.load_experiment("phantom").network.options
    assert config.load_experiment("phantom", ["network.name=unet"]).network.options == {}
    own = ["network.options.num_res_units=0", "network.name=unet"]
    assert config.load_experiment("phantom", own).network.options == {"num_res_units": 0}
    whole = config.load_experiment("phantom", ["network={name: unet, options: {num_res_units: 1}}"])
    assert whole.network.options == {"num_res_units": 1}
    same = config.load_experiment("phantom", ["network.name=paper", "network.options.order=conv-norm-relu"])
    assert set(same.network.options) == {"widths", "order"}
    path = tmp_path / "mine.yaml"
    path.write_text("data: {name: phantom, options: {size: 48}}\nnetwork: {options: {widths: [4, 8]}}")
    mine = config.load_experiment(str(path), ["data.name=em", "network.name=unet"])
    assert mine.data.options == {} and mine.network.options == {}
    # A file that names no network is of the default one.
    assert config.load_experiment(str(path), ["network.name=paper"]).network.options == {"widths": [4, 8]}


def test_options_can_be_replaced_as_a_whole() -> None:
    assert config.load_experiment("phantom", ["network.options={}"]).network.options == {}
    replaced = config.load_experiment("phantom", ["network.options={widths: [4, 8]}", "network.options.out_channels=2"])
    assert replaced.network.options == {"widths": [4, 8], "out_channels": 2}
