"""The data-set contract: samples that are checked, splits that do not leak, folders that are found."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetq.cases import Case, Cases, Skipped
from unetq.data import DatasetSpec, dataset_names, find_root, resolve_dataset
from unetq.errors import ConfigError, DataError
from unetq.export.program import Preprocessing
from unetq.samples import Sample, check_no_leak, check_samples, digest, digest_all, image_part


def sample(name: str = "s-000", seed: int = 0, **changes: Any) -> Sample:
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "id": name,
        "volume": "v",
        "image": rng.integers(0, 255, (1, 20, 30), dtype=np.uint8),
        "label": rng.integers(0, 2, (20, 30), dtype=np.uint8),
    }
    return Sample(**{**values, **changes})


def spec(samples: list[Sample] | None = None, **changes: Any) -> DatasetSpec:
    values: dict[str, Any] = {
        "name": "toy",
        "labels": ("background", "thing"),
        "label_values": (0, 1),
        "preprocessing": Preprocessing("zscore"),
        "loader": lambda root, split, options: samples if samples is not None else [sample()],
        "defaults": {"count": 3, "word": "a", "flag": False},
        "layout": "Put toys there.",
    }
    return DatasetSpec(**{**values, **changes})


def test_shipped_data_sets_are_found_by_name() -> None:
    assert {"em", "phantom"} <= set(dataset_names()) and "download" not in dataset_names()
    for name in dataset_names():
        found = resolve_dataset(name)
        assert found.name == name and len(found.labels) == len(found.label_values) and found.citation
    with pytest.raises(ConfigError, match=r"'fantom'.*did you mean 'phantom'"):
        resolve_dataset("fantom")


def test_unknown_splits_and_options_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'validaton'.*did you mean 'validation'"):
        spec().load(tmp_path, "validaton")
    with pytest.raises(ConfigError, match=r"'cuont'.*did you mean 'count'"):
        spec().load(tmp_path, "train", {"cuont": 3})
    for options in ({"count": "three"}, {"count": True}, {"word": 3}, {"flag": 1}):
        with pytest.raises(ConfigError, match="it takes"):
            spec().load(tmp_path, "train", options)


def test_the_kind_of_an_option_is_named(tmp_path: Path) -> None:
    toy = spec(defaults={"people": {}, "names": [], "count": 3})
    for options, words in (({"people": []}, "a mapping"), ({"names": {}}, "a list"), ({"count": 0.5}, "a whole num")):
        with pytest.raises(ConfigError, match=f"it takes {words}"):
            toy.load(tmp_path, "train", options)


def test_options_reach_the_loader_complete() -> None:
    seen: dict[str, Any] = {}

    def loader(root: Path | None, split: str, options: Any) -> list[Sample]:
        seen.update(options, split=split)
        return [sample()]

    assert len(spec(loader=loader, needs_root=False).load(None, "test", {"count": 7})) == 1
    assert seen == {"count": 7, "word": "a", "flag": False, "split": "test"}


def test_folders_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNETQ_DATA", raising=False)
    toy = spec()
    with pytest.raises(DataError, match=r"data/toy.*UNETQ_DATA is not set.*unetq download toy.*Put toys there"):
        find_root(toy)
    (tmp_path / "data" / "toy").mkdir(parents=True)
    assert find_root(toy) == Path("data/toy")
    monkeypatch.setenv("UNETQ_DATA", str(tmp_path / "base"))
    assert find_root(toy) == Path("data/toy")
    (tmp_path / "base" / "toy").mkdir(parents=True)
    assert find_root(toy) == tmp_path / "base" / "toy"
    (tmp_path / "own").mkdir()
    assert find_root(toy, tmp_path / "own") == tmp_path / "own"
    (tmp_path / "file").touch()
    for name, words in (("nowhere", "does not exist"), ("file", "is not a folder")):
        with pytest.raises(DataError, match=words):
            find_root(toy, tmp_path / name)
    assert find_root(spec(needs_root=False)) is None
    with pytest.raises(DataError, match="needs a folder"):
        toy.load(None, "train")


def test_samples_are_checked() -> None:
    nan = np.ones((1, 20, 30), np.float32)
    nan[0, 3, 4] = np.nan
    broken: list[tuple[list[Sample], str]] = [
        ([], "no samples"),
        ([sample(), sample()], "s-000 comes twice"),
        ([sample(image=np.zeros((20, 30), np.uint8))], "channels, height, width"),
        ([sample(image=np.zeros((1, 0, 30), np.uint8))], "channels, height, width"),
        ([sample(image=np.zeros((1, 20, 30), complex))], "real numbers"),
        ([sample(image=np.full((1, 20, 30), 17, np.uint8))], "constant .every pixel is 17"),
        ([sample(image=nan)], "1 pixels that are NaN"),
        ([sample(label=np.zeros((20, 29), np.uint8))], "20 x 29.*20 x 30"),
        ([sample(label=np.full((20, 30), 2, np.uint8))], "0 to 1.*up to 2"),
        ([sample(label=np.zeros((20, 30), np.int64))], "not int64"),
    ]
    check_samples([sample(), sample("s-001", label=None)], 2)
    for samples, words in broken:
        with pytest.raises(DataError, match=words):
            check_samples(samples, 2)


def test_images_below_the_networks_stride_are_refused(tmp_path: Path) -> None:
    toy = spec([sample()])
    toy.load(tmp_path, "train", min_size=16)
    toy.load(tmp_path, "train", min_size=(20, 30))
    for smallest in (32, (21, 30), (20, 31)):
        with pytest.raises(DataError, match=r"s-000.*20 x 30 pixels, smaller than the network's stride"):
            toy.load(tmp_path, "train", min_size=smallest)


def test_a_slice_on_two_sides_is_found_by_id_and_by_pixels() -> None:
    train, validation = [sample("a", 1), sample("b", 2)], [sample("c", 3)]
    check_no_leak({"train": [*train, sample("a2", 1)], "validation": validation})  # a copy on one side is no leak
    with pytest.raises(DataError, match="b of validation is also in train"):
        check_no_leak({"train": train, "validation": [*validation, sample("b", 4)]})
    with pytest.raises(DataError, match=r"d of validation is also in train \(there a\)"):
        check_no_leak({"train": train, "validation": [*validation, sample("d", 1)]})


def test_classes_that_depend_on_options_need_the_options_first() -> None:
    with pytest.raises(ConfigError, match="options change its classes"):
        resolve_dataset("phantom").load(None, "train", {"kind": "cord"})
    assert resolve_dataset("phantom", {"kind": "cord"}).labels == ("background", "grey matter", "white matter")


def test_the_contract_needs_no_torch() -> None:
    modules = "sys, unetq.data, unetq_datasets.em, unetq_datasets.phantom, unetq_datasets.download"
    code = f"import {modules}; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    assert result.stdout.strip() == "False"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_digest_is_of_pixels_label_shape_and_type() -> None:
    one = sample()
    assert digest(one) == digest(replace(one, id="other", volume="w"))
    wide = replace(one, image=one.image.astype(">u2"))
    assert digest(wide) == digest(replace(one, image=one.image.astype("<u2")))
    assert digest(one) == digest(replace(one, image=np.asfortranarray(one.image)))
    changed = [
        replace(one, image=one.image.reshape(1, 30, 20), label=one.label),
        wide,
        replace(one, image=one.image ^ 1),
        replace(one, label=1 - one.label),
        replace(one, label=one.label.reshape(30, 20)),
        replace(one, label=None),
    ]
    assert len({digest(s) for s in (one, *changed)}) == 7
    assert image_part(digest(one)) == image_part(digest(changed[3])) != image_part(digest(changed[2]))


def test_a_splits_digest_is_of_its_slices_in_order() -> None:
    a, b = sample(seed=1), sample(seed=2)
    assert digest_all([a, b]) == digest_all([a, b])
    assert len({digest_all(s) for s in ([a, b], [b, a], [a], [])}) == 4


def test_a_folder_that_does_not_exist_is_refused_even_where_none_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist.*leave --data"):
        find_root(spec(needs_root=False), tmp_path / "nowhere")
    assert find_root(spec(needs_root=False), tmp_path) is None


def test_why_a_case_was_left_out_tells_no_place(tmp_path: Path) -> None:
    """Reasons stand in run.json and in reports: files are named from the data folder."""
    root = tmp_path / "set"

    def loader(root: Path | None, split: str, options: Any) -> Cases:
        reasons = [f"{root}/a/1.nii.gz: not as {root}/a/2.nii.gz.", f"not in {root}; fetch it.", f"{root}-2/x stays."]
        image = np.arange(8 * 8 * 2, dtype=np.float32).reshape(2, 8, 8)
        good = [] if split == "test" else [Case("good", image, np.zeros((2, 8, 8), np.uint8))]
        return Cases(good, tuple(Skipped(f"bad-{k}", reason) for k, reason in enumerate(reasons)))

    data = spec(loader=loader)
    told = [item.reason for item in data.load(root, "train").skipped]
    assert told == ["a/1.nii.gz: not as a/2.nii.gz.", "not in set; fetch it.", f"{root}-2/x stays."]
    with pytest.raises(DataError, match=r"3 skipped\). bad-0: a/1.nii.gz: not as"):
        data.load(root, "test")
