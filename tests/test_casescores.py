"""Slices put back into volumes; every number of a case's record against one computed another way."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from unetq.boundaries import boundary_scores
from unetq.casescores import METRICS, Assessor, paired_dice, stack, units
from unetq.experiment import EvaluationConfig
from unetq.metrics import SliceScore, count
from unetq.report.schema import Evaluation
from unetq.samples import Sample
from unetq.surface import distances

LABELS = ("background", "grey", "white")
SPACING = (5.0, 0.5, 0.25)
QUICK = EvaluationConfig(bootstrap=200)


def volume(seed: int, slices: int = 5) -> np.ndarray:
    """A truth of three classes, (slices, 24, 20)."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((slices, 24, 20)), (1, 3, 3))
    return np.digitize(noise, [0.02, 0.08]).astype(np.uint8)


def sliced(name: str, truth: np.ndarray, site: str = "", spacing: tuple[float, ...] = SPACING) -> list[Sample]:
    image = np.zeros((1, *truth.shape[1:]), np.float32)
    return [
        Sample(f"{name}-{k:03d}", name, image, plane, spacing, f"person {name}", site, k)
        for k, plane in enumerate(truth)
    ]


def scored(samples: list[Sample], masks: list[np.ndarray], classes: int = 3) -> list[SliceScore]:
    return [SliceScore(s.id, s.volume, count(m, s.label, classes)) for s, m in zip(samples, masks, strict=True)]


def assess(samples: list[Sample], masks: list[np.ndarray], settings: EvaluationConfig = QUICK) -> dict:
    return Assessor(samples, LABELS, settings, 0).record(scored(samples, masks), masks)


@pytest.fixture(scope="module")
def split() -> tuple[list[Sample], list[np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Four cases at two sites, their masks, and truth and prediction of each as volumes."""
    truths = {f"c{i}": volume(i, 3 + i) for i in range(4)}
    wrong = {name: np.where(volume(9 + i, 3 + i) > 1, 1, t) for i, (name, t) in enumerate(truths.items())}
    samples = [s for i, (name, t) in enumerate(truths.items()) for s in sliced(name, t, f"site{i % 2}")]
    masks = [mask.astype(np.uint8) for name in truths for mask in wrong[name]]
    return samples, masks, {name: (truths[name], wrong[name]) for name in truths}


def test_cases_hold_what_their_volumes_give(split: tuple) -> None:
    samples, masks, volumes = split
    record = assess(samples, masks)
    assert record["unit"] == "case" and record["distance_unit"] == "mm"
    assert [case["id"] for case in record["cases"]] == list(volumes)
    for case, (truth, prediction) in zip(record["cases"], volumes.values(), strict=True):
        assert case["slices"] == len(truth) and case["spacing_mm"] == list(SPACING) and case["scores"] == {}
        assert case["subject"] == f"person {case['id']}" and case["volume"] == case["id"]
        for index, label in enumerate(LABELS):
            found, t, p = case["classes"][label], truth == index, prediction == index
            assert list(found) == list(METRICS)
            assert found["dice"] == pytest.approx(2 * (t & p).sum() / (t.sum() + p.sum()))
            assert found["iou"] == pytest.approx((t & p).sum() / (t | p).sum())
            assert found["true_volume_ml"] == pytest.approx(t.sum() * 5.0 * 0.5 * 0.25 / 1000)
            assert found["volume_error"] == pytest.approx(p.sum() / t.sum() - 1)
            expected = distances(p, t, SPACING)
            both = (found["hd95_mm"], found["nsd"])
            assert both == ((None, None) if label == "background" else (expected.hd95, expected.nsd))


def test_summaries_sites_and_correlation(split: tuple) -> None:
    samples, masks, _ = split
    record = assess(samples, masks)
    for label in LABELS:
        dice = [case["classes"][label]["dice"] for case in record["cases"]]
        entry = record["summary"][label]["dice"]
        assert entry["mean"] == pytest.approx(np.mean(dice)) and entry["cases"] == 4
        assert min(dice) <= entry["low"] <= entry["mean"] <= entry["high"] <= max(dice)
        assert record["by_site"]["site1"][label]["dice"] == pytest.approx((dice[1] + dice[3]) / 2)
        volumes = [(c["classes"][label]["volume_ml"], c["classes"][label]["true_volume_ml"]) for c in record["cases"]]
        expected = stats.pearsonr(*zip(*volumes, strict=True)).statistic
        assert record["volume_correlation"][label] == pytest.approx(expected)
    assert set(record["by_site"]) == {"site0", "site1"}
    assert record["summary"]["background"]["nsd"] == {
        "mean": None, "low": None, "high": None, "cases": 0, "undefined": 4
    }  # fmt: skip
    assert record["bootstrap"]["samples"] == 200 and "narrower" in record["bootstrap"]["note"]


def test_the_record_is_json_and_the_reports_schema(split: tuple) -> None:
    samples, masks, _ = split
    record = assess(samples, masks)
    json.dumps(record, allow_nan=False)
    head = {"arithmetic": "integer", "volume_dice": {}, "mean_slice_dice": {}, "slices": [], "empty_policy": ""}
    found = Evaluation.model_validate(head | record)
    assert found.unit == "case" and found.cases[2].value("grey", "nsd") == record["cases"][2]["classes"]["grey"]["nsd"]


def test_order_of_slices_does_not_matter(split: tuple) -> None:
    samples, masks, _ = split
    order = np.random.default_rng(0).permutation(len(samples))
    shuffled = assess([samples[i] for i in order], [masks[i] for i in order])
    straight = assess(samples, masks)
    assert {c["id"]: c for c in shuffled["cases"]} == {c["id"]: c for c in straight["cases"]}


def test_volumes_of_a_3d_network_give_the_same_cases(split: tuple) -> None:
    samples, masks, volumes = split
    whole = [
        Sample(name, name, np.zeros((1, *t.shape), np.float32), t, SPACING, f"person {name}", f"site{i % 2}", 0)
        for i, (name, (t, _)) in enumerate(volumes.items())
    ]
    predictions = [p.astype(np.uint8) for _, p in volumes.values()]
    assert assess(whole, predictions)["cases"] == assess(samples, masks)["cases"]
    alone = assess(whole[:1], predictions[:1])
    assert alone["unit"] == "case" and "no interval" in alone["bootstrap"]["note"]
    assert alone["summary"]["grey"]["dice"]["low"] is None


def of_nobody(samples: list[Sample]) -> list[Sample]:
    return [replace(sample, subject="") for sample in samples]


def test_one_volume_of_slices_is_scored_by_slice() -> None:
    truth = volume(1)
    samples, masks = of_nobody(sliced("v", truth)), list(np.roll(truth, 1, axis=1))
    assert assess(sliced("v", truth), masks)["unit"] == "case"  # the only patient of a fold is a patient
    record = assess(samples, masks)
    assert record["unit"] == "slice" and [c["id"] for c in record["cases"]] == [s.id for s in samples]
    assert "of one volume" in record["bootstrap"]["note"]
    for case, t, p in zip(record["cases"], truth, masks, strict=True):
        assert case["slices"] == 1
        expected = distances(p == 1, t == 1, SPACING[1:])
        assert (case["classes"]["grey"]["hd95_mm"], case["classes"]["grey"]["nsd"]) == (expected.hd95, expected.nsd)


def test_slices_without_truth_leave_a_gap() -> None:
    """A structure two slices off, across an unlabelled slice, is 10 mm off and not 5."""
    truth, prediction = np.zeros((6, 24, 20), np.uint8), np.zeros((6, 24, 20), np.uint8)
    truth[1, 5:15, 5:15] = 1
    prediction[3, 5:15, 5:15] = 1
    kept = [0, 1, 3, 4, 5]
    samples = [s for s in sliced("a", truth) if s.index in kept] + sliced("b", truth)
    masks = [prediction[k] for k in kept] + list(truth)
    (first, second) = assess(samples, masks)["cases"]
    assert first["classes"]["grey"]["hd95_mm"] == pytest.approx(10.0)
    assert first["classes"]["grey"]["dice"] == 0.0 and second["classes"]["grey"]["dice"] == 1.0


def test_unknown_spacing_is_pixels_and_mixed_is_not_mixed_up() -> None:
    truth = volume(2)
    masks = list(np.roll(truth, 2, axis=2))
    plain = assess([*sliced("a", truth, spacing=()), *sliced("b", truth, spacing=())], masks * 2)
    assert plain["distance_unit"] == "pixels" and plain["cases"][0]["spacing_mm"] is None
    assert plain["cases"][0]["classes"]["grey"]["volume_ml"] is None
    assert plain["cases"][0]["classes"]["grey"]["hd95_mm"] == distances(np.stack(masks) == 1, truth == 1).hd95
    mixed = assess([*sliced("a", truth), *sliced("b", truth, spacing=())], masks * 2)
    assert mixed["distance_unit"] == "mm" and "without spacing" in mixed["bootstrap"]["note"]
    assert mixed["cases"][1]["classes"]["grey"]["hd95_mm"] is None
    assert mixed["summary"]["grey"]["hd95_mm"]["undefined"] == 1


def test_empty_classes_follow_the_policy() -> None:
    nothing, something = np.zeros((3, 24, 20), np.uint8), np.zeros((3, 24, 20), np.uint8)
    something[1, 4:9, 4:9] = 1
    samples = [*sliced("none", nothing), *sliced("missed", something), *sliced("invented", nothing)]
    masks = [*nothing, *nothing, *something]
    for policy, both in (("one", 1.0), ("skip", None)):
        record = assess(samples, masks, replace_empty(policy))
        grey = [case["classes"]["grey"] for case in record["cases"]]
        assert [(g["dice"], g["iou"], g["nsd"]) for g in grey] == [(both,) * 3, (0.0,) * 3, (0.0,) * 3]
        assert all(g["hd95_mm"] is None for g in grey)
        assert [g["volume_error"] for g in grey] == [None, -1.0, None]
        assert record["summary"]["grey"]["hd95_mm"]["undefined"] == 3
        assert record["summary"]["grey"]["dice"]["undefined"] == (0 if policy == "one" else 1)
        assert record["summary"]["grey"]["dice"]["mean"] == pytest.approx(1 / 3 if policy == "one" else 0.0)


def replace_empty(policy: str) -> EvaluationConfig:
    return QUICK.model_copy(update={"empty": policy})


def test_cases_of_one_person_are_told() -> None:
    samples = [*sliced("a", volume(0)), *sliced("b", volume(1)), *sliced("c", volume(2))]
    masks = [s.label for s in samples]
    assert "person" not in assess(samples, masks)["bootstrap"]["note"]
    twice = [replace(s, subject="person a") if s.volume == "b" else s for s in samples]
    assert "3 cases of 2 persons" in assess(twice, masks)["bootstrap"]["note"]


def test_distances_can_be_left_out(split: tuple) -> None:
    samples, masks, _ = split
    record = assess(samples, masks, QUICK.model_copy(update={"hd95": False}))
    assert record["cases"][0]["classes"]["grey"]["hd95_mm"] is None is record["cases"][0]["classes"]["grey"]["nsd"]
    assert record["cases"][0]["classes"]["grey"]["dice"] is not None


def test_slices_of_different_sizes_have_no_distances() -> None:
    truth = volume(3, 2)
    samples = [*sliced("a", truth[:1]), *sliced("a", truth[1:, :20])]
    samples[1] = replace(samples[1], id="a-001", index=1)
    samples += sliced("b", truth)
    record = assess(samples, [s.label for s in samples])
    assert record["cases"][0]["classes"]["grey"] | {} and record["cases"][0]["classes"]["grey"]["hd95_mm"] is None
    assert record["cases"][0]["classes"]["grey"]["dice"] == 1.0 and record["cases"][1]["classes"]["grey"]["nsd"] == 1.0


def test_cells_are_scored_where_there_are_membranes() -> None:
    truth = (volume(4) > 0).astype(np.uint8)
    prediction = (volume(5) > 0).astype(np.uint8)
    samples = of_nobody(sliced("v", truth, spacing=()))
    record = Assessor(samples, ("membrane", "cell"), QUICK, 0).record(
        scored(samples, list(prediction), 2), list(prediction)
    )
    expected = [boundary_scores(p > 0, t > 0) for p, t in zip(prediction, truth, strict=True)]
    assert [c["scores"] for c in record["cases"]] == [
        {"rand": e.rand, "information": e.information} for e in expected if e is not None
    ]
    mean = record["score_summary"]["rand"]["mean"]
    assert mean == pytest.approx(np.mean([e.rand for e in expected if e is not None]))
    assert "not thinned" in record["score_method"]


def test_paired_over_matched_cases(split: tuple) -> None:
    samples, masks, _ = split
    mine, reference = assess(samples, masks), assess(samples, [s.label for s in samples])
    found = paired_dice(mine, reference, LABELS, QUICK, 0)
    differences = [case["classes"]["grey"]["dice"] - 1.0 for case in mine["cases"]]
    assert found["grey"]["difference"] == pytest.approx(np.mean(differences)) and found["grey"]["n"] == 4
    assert found["grey"]["metric"] == "dice" and "cannot be below" in found["grey"]["note"]
    reference["cases"][1]["classes"]["grey"]["dice"] = None
    reference["cases"].pop(0)
    assert paired_dice(mine, reference, LABELS, QUICK, 0)["grey"]["n"] == 2


def test_units_without_numbers_keep_their_order() -> None:
    samples = [replace(s, index=0) for s in sliced("a", volume(0)) + sliced("b", volume(1))]
    kind, found = units(samples)
    assert kind == "case" and found[1].members == tuple(range(5, 10)) and found[1].slices == tuple(range(5))
    assert np.array_equal(stack(found[1], [s.label for s in samples]), volume(1))
