"""The performance picture: it is that of the figures that were kept, and these are those of the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.plot import IMAGES, KEPT, PARTS, CannotDrawError, draw

PAGE = (KEPT.parent / "performance.md").read_text("utf-8")


def test_the_pictures_of_the_readme_are_those_of_the_figures_that_were_kept(tmp_path: Path) -> None:
    drawn = draw(KEPT, tmp_path)

    assert [each.name for each in drawn] == ["performance-light.svg", "performance-dark.svg"]
    for each in drawn:
        assert each.read_text() == (IMAGES / each.name).read_text(), "python -m benchmarks --plot"
        assert f"docs/images/{each.name}" in (KEPT.parents[1] / "README.md").read_text()


def test_the_figures_that_were_kept_are_those_of_the_page() -> None:
    both = json.loads(KEPT.read_bytes())["figures"]
    told = ("log in PostgreSQL", "Apache Kafka")

    def line(name: str, *values: str) -> str:
        return f"| {name} | {' | '.join(values)} |"

    assert line("figure", *told) in PAGE
    assert line("whole saga, orders/s", *(f"{each['sagas'][0]['rate']:,}" for each in both)) in PAGE
    assert line("floor: hand-written SQL, orders/s", *(f"{each['floors'][0]:,}" for each in both)) in PAGE
    for part in PARTS:
        assert line(part, *(str(each["sagas"][0]["cpu_us"][part]) for each in both)) in PAGE
    for each in both:
        for (taken,) in each["latencies"].values():
            assert f" {taken['p50_ms']} / {taken['p99_ms']} ms, " in PAGE


def test_a_picture_is_drawn_of_what_a_run_writes_medians_of_its_rounds_and_the_newest_release(tmp_path: Path) -> None:
    kept = tmp_path / "run.json"
    latency = {"rate": 50, "p50_ms": 10.0, "p99_ms": 20.0, "cpu_share": 1.0, "cpu_ms": {}}
    saga = {"orders": 1, "accepted_rate": 9.0, "cpu_us": {"order": 100, "load": 7}}
    older = {"release": "old", "transport": "postgres", "floors": [9.0], "sagas": [{**saga, "rate": 1.0}]}
    newest = {"floors": [400.0, 600.0, 500.0], "sagas": [{**saga, "rate": rate} for rate in (100.0, 300.0, 200.0)]}
    figures = [{**each, "latencies": {"50": [latency]}} for each in (older, {**older, **newest, "release": "new"})]
    kept.write_text(json.dumps({"figures": figures, "peers": []}))

    light, _ = draw(kept, tmp_path)
    root = ET.fromstring(light.read_text())
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"200", "500", "10 / 20", "100"} <= set(texts)
    bars = [
        float(each.get("width", ""))
        for each in root.iter("{http://www.w3.org/2000/svg}rect")
        if each.get("height") == "18"
    ]
    assert bars == [168.0, 420.0, 210.0, 210.0, 420.0]


@pytest.mark.parametrize("content", [None, "{", '{"figures": []}', '{"figures": [{"transport": "postgres"}]}'])
def test_figures_that_cannot_be_read_are_named_with_what_to_do(tmp_path: Path, content: str | None) -> None:
    kept = tmp_path / "run.json"
    if content is not None:
        kept.write_text(content)

    with pytest.raises(CannotDrawError, match=r"run\.json.*python -m benchmarks --json"):
        draw(kept, tmp_path)


def test_the_command_draws_and_measures_nothing(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "benchmarks", "--plot", str(tmp_path / "none.json")]
    done = subprocess.run(asked, cwd=KEPT.parents[1], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{tmp_path / 'none.json'} cannot be read")
    assert "Traceback" not in done.stderr
