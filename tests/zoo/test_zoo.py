"""The zoo's own order: every bug can be planted, and says what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.zoo.__main__ import Verdict, main, summary, with_table
from tests.zoo.bug import PROMISES, SOURCE, Bug, NotPlantedError
from tests.zoo.in_access import BUGS as IN_ACCESS
from tests.zoo.in_core import BUGS as IN_CORE
from tests.zoo.in_other_layers import BUGS as IN_OTHER_LAYERS
from tests.zoo.in_services import BUGS as IN_SERVICES
from tests.zoo.in_sql import BUGS as IN_SQL
from tests.zoo.inmates import ZOO

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("bug", ZOO.values(), ids=list(ZOO))
def test_a_bug_can_be_planted_and_is_python(bug: Bug) -> None:
    text = bug.planted()
    assert text != (SOURCE / bug.file).read_text("utf-8")
    if bug.file.endswith(".py"):
        compile(text, bug.file, "exec")


def test_every_bug_has_a_name_of_its_own_and_a_promise() -> None:
    assert len(ZOO) == sum(map(len, (IN_ACCESS, IN_CORE, IN_OTHER_LAYERS, IN_SERVICES, IN_SQL)))
    assert {bug.promise for bug in ZOO.values()} == set(PROMISES)


def test_a_bug_whose_code_has_moved_on_says_so() -> None:
    bug = Bug("moved", 1, "Nothing.", "services/order/model.py", "this text is nowhere", "")
    with pytest.raises(NotPlantedError, match=r"moved: services/order/model\.py has this text 0 times"):
        bug.planted()


def test_a_planted_process_has_the_bug_and_the_disk_has_not() -> None:
    program = (
        "from tests.zoo.bug import plant\n"
        "from tests.zoo.inmates import ZOO\n"
        "plant(ZOO['total-forgets-quantity'])\n"
        "from orderflow.events.order import Item\n"
        "from orderflow.services.order.messages import PlaceOrder\n"
        "items = (Item(sku='a', quantity=3, unit_price=5),)\n"
        "order = dict(order_id=None, customer_id='', currency='EUR', items=items, payment_method='')\n"
        "print(PlaceOrder(**order).total)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("5\n", "")


def test_the_summary_tells_what_walked_past() -> None:
    seen, missed = ZOO["no-dedupe"], ZOO["relay-newest-first"]
    verdicts = [Verdict(seen, True, "3 seeds", "twice"), Verdict(missed, False, "9 seeds", "")]
    assert list(summary(verdicts, 9)) == [
        "1 of 2 bugs were caught.",
        "The simulator, 9 seeds each: 1 of 2 in code that it runs (50%).",
        f"MISSED relay-newest-first: {missed.breaks}",
    ]


def test_the_table_takes_the_place_of_the_last_one() -> None:
    page = "before\n<!-- zoo: made by python -m tests.zoo --write -->\nold\n<!-- end of zoo -->\nafter\n"
    bug = ZOO["no-dedupe"]
    written = with_table(page, [Verdict(bug, True, "3 seeds", "twice")], 9)
    assert "\nold\n" not in written
    assert f"| {bug.breaks} (`no-dedupe`) | nothing happens twice | simulation |" in written
    assert written.startswith("before\n")
    assert written.endswith("-->\nafter\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "no bug is called nobody"),
        (["--layer", "moon"], "no bug is to be caught by 'moon'"),
        (["--write", "no-dedupe"], "--write makes the table of the whole zoo"),
    ],
)
def test_wrong_usage_says_what_is_wanted(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert told in done.output
