"""The report of a run: text, JSON and picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from orderflow.chaos import report
from orderflow.chaos.client import Violation
from orderflow.chaos.judge import Observer, RunVerdict, Slice, percentile
from orderflow.chaos.nemesis import InjectedFault
from orderflow.chaos.plan import KINDS, Planned
from orderflow.chaos.report import picture
from orderflow.chaos.run import ChaosOptions, ChaosResult

HOSTILE = '<script>"&'


def outcome(*troubles: Violation) -> ChaosResult:
    faults = [Planned(number, kind, "order", 10.0 * number, 15.0) for number, kind in enumerate(KINDS, 1)]
    slices = [
        Slice(5.0 * number, placed=100, ended=90, accepted_ms=[20.0, 30.0], ended_ms=[90.0], under_way=number * 7)
        for number in range(30)
    ]
    slices[4] = Slice(20.0)
    happened = [InjectedFault(each, each.at_s, each.at_s + each.lasts_s, note="1 killed") for each in faults]
    happened[2] = replace(happened[2], done=False, note=HOSTILE)
    return ChaosResult(
        wish=ChaosOptions(seconds=120, rate=20, seed=7, kafka=True, brokers=3, kinds=KINDS),
        planned=faults,
        happened=happened,
        verdict=RunVerdict(troubles=list(troubles), orders=2000, statuses={"COMPLETED": 2000}, outcomes={"ok": 1990}),
        slices=slices,
        slice_s=5.0,
        requests={"place ok": 2000},
        topics=Observer(),
        not_sent=0,
        poisoned=2,
        seconds=130.0,
        without={"disk": "only root may mount a tmpfs"},
    )


def test_the_text_says_the_verdict_the_seed_and_every_fault() -> None:
    text = "\n".join(report.lines(outcome()))

    assert text.startswith("All promises kept: lost 0, doubled 0, reordered 0, adrift 0, stuck 0")
    assert "seed 7" in text
    assert "left out, disk: only root may mount a tmpfs" in text
    assert all(f"s  {kind} order" in text for kind in KINDS)


def test_what_was_found_is_counted_and_told() -> None:
    found = outcome(Violation("lost", "order 5", "it is gone"), Violation("lost", "order 6", "it is gone"))
    text = "\n".join(report.lines(found))

    assert text.startswith("NOT all promises kept: lost 2, doubled 0")
    assert "  lost: order 6: it is gone" in text
    assert report.document(found)["passed"] is False


def test_the_document_is_json_with_plan_faults_and_slices() -> None:
    document = json.loads(json.dumps(report.document(outcome())))

    assert document["verdict"] == dict.fromkeys(("lost", "doubled", "reordered", "adrift", "stuck"), 0)
    assert len(document["plan"]) == len(document["faults"]) == len(KINDS)
    assert document["latency_ms"]["accepted"] == {"p50": 30, "p99": 30}
    assert len(document["slices"]["of"]) == 30


def test_all_three_are_written(tmp_path: Path) -> None:
    written = report.write(outcome(), tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(written)


def test_the_picture_is_svg_with_a_bar_for_each_fault_and_nothing_from_outside_in_it() -> None:
    found = outcome()
    root = ET.fromstring(picture(found))
    bars = root.findall(".//{*}rect/{*}title")

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(bars) == len(found.happened)
    assert "prefers-color-scheme: dark" in picture(found)
    assert "<script>" not in picture(found)


def test_a_run_in_which_nothing_happened_has_a_picture_too() -> None:
    found = replace(outcome(), happened=[], slices=[])

    assert ET.fromstring(picture(found)).tag.endswith("svg")


@pytest.mark.parametrize(
    ("values", "share", "wanted"), [([], 0.5, None), ([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0)]
)
def test_a_percentile_of_nothing_is_none(values: list[float], share: float, wanted: float | None) -> None:
    assert percentile(values, share) == wanted
