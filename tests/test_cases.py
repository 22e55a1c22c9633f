"""Volumes as samples: orientation, neighbours, labelled slices, folds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetq.cases import Case, Cases, Skipped, reasons, samples_of
from unetq.data import DatasetSpec
from unetq.errors import ConfigError, DataError, EmptySplitError
from unetq.export.program import Preprocessing
from unetq.folds import Fold
from unetq.samples import Sample, check_no_leak, check_size

RNG = np.random.default_rng(0)


def case(name: str = "a", **changes: Any) -> Case:
    image = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    values: dict[str, Any] = {"image": image, "label": (image % 2).astype(np.uint8), "spacing": (3.0, 1.0, 0.5)}
    return Case(name, **{**values, "axes": "RAS", **changes})


def seen(one: Case, rule: Preprocessing | None = None, dimensions: int = 2) -> list[Sample]:
    return samples_of(Cases([one]), rule or Preprocessing(), dimensions)


def test_slices_know_their_volume() -> None:
    samples = seen(case(subject="p1", site="x"))
    assert [sample.id for sample in samples] == ["a-000", "a-001", "a-002", "a-003"]
    assert {(s.volume, s.subject, s.site, s.spacing) for s in samples} == {("a", "p1", "x", (3.0, 1.0, 0.5))}
    assert samples[2].index == 2 and (samples[2].image[0] == case().image[2]).all()
    assert seen(case())[0].subject == "a"  # a case without a person is one of its own


def test_a_volume_is_one_sample() -> None:
    (sample,) = seen(case(), dimensions=3)
    assert sample.image.shape == (1, 4, 5, 6) and sample.label is not None and sample.label.shape == (4, 5, 6)


def test_orientation_permutes_and_flips_image_label_and_spacing_alike() -> None:
    (sample,) = seen(case(), Preprocessing(orientation="PSL"), 3)
    # rows go posterior (columns before, flipped), columns superior (slices before), slices left (rows, flipped)
    expected = case().image.transpose(1, 2, 0)[::-1, ::-1]
    assert (sample.image[0] == expected).all() and sample.spacing == (1.0, 0.5, 3.0)
    assert sample.label is not None and (sample.label == expected % 2).all()


def test_the_labelled_slices_follow_the_orientation() -> None:
    labelled = np.array([True, True, False, False])
    assert [s.index for s in seen(case(labelled=labelled))] == [0, 1]
    assert [s.index for s in seen(case(labelled=labelled), Preprocessing(orientation="RAI"))] == [2, 3]
    (volume,) = seen(case(labelled=labelled), dimensions=3)
    assert volume.image.shape[1] == 2 and volume.index == 0


def test_a_volume_with_holes_in_its_truth_has_no_3d_sample() -> None:
    with pytest.raises(DataError, match=r"case a: slice 1 between slices with truth"):
        seen(case(labelled=np.array([True, False, True, True])), dimensions=3)


def test_neighbours_are_channels_and_the_ends_repeat() -> None:
    labelled = np.array([True, False, True, True])
    first, third, last = seen(case(labelled=labelled), Preprocessing(context=1))
    stack = case().image
    assert (first.image == stack[[0, 0, 1]]).all() and (third.image == stack[[1, 2, 3]]).all()
    assert (last.image == stack[[2, 3, 3]]).all()
    assert third.image.base is not None  # a view of the volume


@pytest.mark.parametrize(
    ("changes", "rule", "dimensions", "error", "message"),
    [
        ({"axes": ""}, Preprocessing(orientation="RAS"), 2, DataError, "does not say how it lies"),
        ({"label": np.zeros((4, 5, 5), np.uint8)}, Preprocessing(), 2, DataError, "of one grid"),
        ({}, Preprocessing(context=2), 3, ConfigError, "context = 2 with a 3-D network"),
        ({"image": np.zeros((2, 4, 5, 6))}, Preprocessing(context=1), 2, ConfigError, "case a has 2 channels"),
    ],
)
def test_contradictions(
    changes: dict[str, Any], rule: Preprocessing, dimensions: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        seen(case(**changes), rule, dimensions)


def spec(loader: Any) -> DatasetSpec:
    return DatasetSpec("toy", ("background", "thing"), (0, 1), Preprocessing(), loader, needs_root=False)


def people(split: str) -> list[Case]:
    names = {"train": "abcd", "validation": "ef", "test": "g"}[split]
    return [
        case(f"{name}{scan}", subject=name, site="xyz"[ord(name) % 3], image=RNG.normal(size=(4, 5, 6)))
        for name in names
        for scan in (0, 1)
    ]


def test_a_split_says_what_was_left_out() -> None:
    left = (Skipped("b", "it is empty."),)
    found = spec(lambda root, split, options: Cases([case()], left)).load(None, "train")
    assert found.skipped == left and len(found) == 4
    with pytest.raises(DataError, match=r"no case of split 'train' can be used \(1 skipped\)\. b: it is empty"):
        spec(lambda root, split, options: Cases([], left)).load(None, "train")


def test_constant_slices_of_a_volume_pass_and_single_ones_do_not() -> None:
    blank = case().image.copy()
    blank[0] = 0
    assert len(spec(lambda root, split, options: Cases([case(image=blank)])).load(None, "train")) == 4
    alone = Sample("s", "v", np.zeros((1, 5, 5)), None)
    with pytest.raises(DataError, match="constant"):
        spec(lambda root, split, options: [alone]).load(None, "train")


def test_a_data_set_of_slices_has_no_volumes() -> None:
    alone = Sample("s", "v", RNG.normal(size=(1, 5, 5)), None)
    with pytest.raises(ConfigError, match=r"data\.dimensions = 3: data set 'toy' holds single slices"):
        spec(lambda root, split, options: [alone]).load(None, "train", dimensions=3)


@pytest.mark.parametrize(("by", "count", "folds"), [("subject", 3, 3), ("subject", 0, 6), ("site", 0, 3)])
def test_folds_divide_whole_groups(by: Any, count: int, folds: int) -> None:
    toy = spec(lambda root, split, options: Cases(people(split)))
    seen_once: list[str] = []
    for index in range(folds):
        fold = Fold(index, count, by)
        parts = {split: toy.load(None, split, fold=fold) for split in ("train", "validation")}
        check_no_leak(parts)
        key = (lambda s: s.subject) if by == "subject" else (lambda s: s.site)
        held = {key(sample) for sample in parts["validation"]}
        assert held and not held & {key(sample) for sample in parts["train"]}
        seen_once += [sample.id for sample in parts["validation"]]
        assert {s.subject for s in toy.load(None, "test", fold=fold)} == {"g"}
    assert len(seen_once) == len(set(seen_once)) == 6 * 2 * 4


def test_folds_of_a_single_volume_are_blocks_of_slices() -> None:
    samples = seen(case())
    train, held = Fold(1, 2, "slice").split(samples)
    assert [s.index for s in train] == [0, 1] and [s.index for s in held] == [2, 3]


@pytest.mark.parametrize(
    ("fold", "error", "message"),
    [
        (Fold(0, 7), ConfigError, r"data\.folds = 7 of 6 subjects"),
        (Fold(6, 0), ConfigError, r"data\.fold = 6 of 6 folds"),
        (Fold(0, 1), ConfigError, r"data\.folds = 1"),
    ],
)
def test_impossible_folds(fold: Fold, error: type[Exception], message: str) -> None:
    toy = spec(lambda root, split, options: Cases(people(split)))
    with pytest.raises(error, match=message):
        toy.load(None, "train", fold=fold)


def test_folds_by_site_need_sites() -> None:
    with pytest.raises(DataError, match=r"sample a-000 names no site"):
        Fold(0, 2, "site").split(seen(case()))


def test_a_person_on_two_sides_is_refused() -> None:
    parts = {"train": seen(case("a", subject="p")), "validation": seen(case("b", subject="p", image=-case().image))}
    with pytest.raises(DataError, match=r"subject p is in validation \(slice b-000\) and in train \(slice a-00"):
        check_no_leak(parts)


def test_sizes_count_after_resampling() -> None:
    rule = Preprocessing(spacing=(2.0, 2.0))
    with pytest.raises(DataError, match=r"a-000 is 3 x 2 pixels once resampled from 5 x 6.*stride 4 x 4"):
        check_size(seen(case()), rule, 4)
    check_size(seen(case()), rule, 2)


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_folds_need_no_case_in_both_splits(empty: str) -> None:
    def loader(root: object, split: str, options: object) -> Cases:
        if split == empty:
            raise EmptySplitError("none")
        return Cases([one for name in ("train", "validation") for one in people(name)])

    toy = spec(loader)
    fold = Fold(0, 3)
    assert len({s.subject for s in toy.load(None, "train", fold=fold)}) == 4
    assert len({s.subject for s in toy.load(None, "validation", fold=fold)}) == 2
    with pytest.raises(EmptySplitError, match="none"):
        toy.load(None, empty)


def test_folds_of_nothing() -> None:
    def loader(root: object, split: str, options: object) -> Cases:
        raise EmptySplitError(f"no {split}")

    with pytest.raises(EmptySplitError, match="no train no validation"):
        spec(loader).load(None, "train", fold=Fold(0, 3))


@pytest.mark.parametrize("raised", [False, True])
def test_folds_keep_the_reasons_of_a_split_without_a_usable_case(raised: bool, tmp_path: Path) -> None:
    lost = Skipped("v", f"{tmp_path}/v.nii is damaged.")

    def loader(root: object, split: str, options: object) -> Cases:
        if split == "train":
            return Cases([one for name in ("train", "validation") for one in people(name)], (Skipped("t", "odd."),))
        if raised:
            raise EmptySplitError("none", reasons([lost]))
        return Cases([], (lost,))

    samples = spec(loader).load(tmp_path, "train", fold=Fold(0, 3))
    assert samples.skipped == (Skipped("v", "v.nii is damaged."), Skipped("t", "odd."))
    with pytest.raises(EmptySplitError) as found:
        spec(loader).load(tmp_path, "validation")
    assert [case for case, _ in found.value.reasons] == ["v"]
