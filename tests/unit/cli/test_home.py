"""A home that is named must be one, and who answers must be of it: before anything is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pytest
from click.testing import CliRunner, Result

from orderflow.cli import main
from orderflow.cli.errors import UnreachableError
from orderflow.cli.session import as_running, client_of
from orderflow.local.home import EventLog, Home
from orderflow.local.state import ProcessMark, Running, RunState, attached
from orderflow.settings import Settings
from tests.support.shop import Asked, Says, Shop, shop
from tests.unit.cli.calls import NOBODY, ORDER_ID, call

OURS, THEIRS = UUID(int=1), UUID(int=2)
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "order explain": (ORDER_ID,),
    "order show": (ORDER_ID,),
    "order watch": (ORDER_ID,),
    "payment show": (ORDER_ID,),
    "payment settle": (ORDER_ID, "--as", "charged", "--reason", "x", "--yes"),
    "topic tail": ("order-events",),
    "dlt note": ("f1", "text"),
    "dlt show": (ORDER_ID,),
    "dlt pause": ("payment-1",),
    "dlt resume": ("payment-1",),
    "dlt edit": (ORDER_ID,),
    "dlt pytest": (ORDER_ID,),
    "dlt rehearse": ("--all",),
    "dlt replay": ("--all",),
    "dlt discard": ("--all", "--reason", "x", "--yes"),
    "fault clear": ("payment-1",),
    "fault add": ("payment", "--event", "OrderPlaced", "--match", "sku=x", "--error", "permanent"),
    "expired acknowledge": ("payment", "--reason", "x"),
    "outbox republish": ("--all",),
    "outage overrule": ("order", "PaymentSucceeded", "--as", "poison", "--reason", "x"),
    "customer erase": ("ada", "--yes", "--reason", "x"),
    "customer export": ("ada",),
    "ops approve": (ORDER_ID, "--yes", "--reason", "x"),
    "ops withdraw": (ORDER_ID, "--yes", "--reason", "x"),
    "run": ("order",),
    "token create": ("anna", "--role", "viewer"),
    "token revoke": ("anna",),
}
"""What a command wants besides; a new one that wants something has to be named here."""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


MAKES_ONE = {"up", "chaos"}
WANTS_NONE = {"simulate", "credentials", "schema export", "schema check"}
ALL = sorted(set(commands(main)) - MAKES_ONE - WANTS_NONE)


def invoke(*arguments: str, **environ: str) -> Result:
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("ORDERFLOW_")}
    return CliRunner(env={**clean, **environ}).invoke(main, list(arguments))


@pytest.mark.parametrize("command", ALL)
def test_a_named_home_that_is_none_is_an_error_for_every_command(tmp_path: Path, command: str) -> None:
    typo = tmp_path / "hoem"
    words = (*command.split(), *ARGUMENTS.get(command, ()))
    expected = f"is {typo}, which is not a home of Orderflow: there is no such folder."
    for told, result in (
        ("--home", invoke(*words, "--home", str(typo))),
        ("ORDERFLOW_HOME", invoke(*words, ORDERFLOW_HOME=str(typo))),
    ):
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: {told} {expected}")
        assert f"orderflow up --home {typo}" in result.stderr
    assert not typo.exists()


def test_a_folder_of_something_else_is_no_home_and_one_with_settings_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").touch()
    assert "it holds neither home.json nor orderflow.toml" in invoke("lag", "--home", str(tmp_path)).stderr
    (tmp_path / "orderflow.toml").touch()
    assert invoke("settings", "--home", str(tmp_path)).exit_code == 0


def test_without_a_home_the_settings_say_where_the_services_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with shop(lambda _: Says(200, {"orders": [], "next": None})) as deployed:
        assert invoke("order", "list", ORDERFLOW_ORDER_URL=deployed.url).exit_code == 0
    assert [asked.path.partition("?")[0] for asked in deployed.asked] == ["/orders"]


def live(service: str, installation: UUID | None) -> dict[str, Any]:
    return {"alive": True, "service": service, "installation": None if installation is None else str(installation)}


def answering(service: str, installation: UUID | None) -> Any:
    def answer(asked: Asked) -> Says:
        return Says(200, live(service, installation) if asked.path == "/health/live" else {"done": True})

    return shop(answer)


def home_with_a_run(folder: Path, address: str) -> Settings:
    """As `up` leaves it while the order service of this installation is at `address`; we are the supervisor."""
    home = Home.open(folder)
    home.remember_installation(OURS)
    mark = ProcessMark.of(os.getpid())
    RunState(mark, "ready", (Running("order", "service", mark.pid, mark.started, address),)).write(home.state)
    return as_running(Settings.load(environ={}, home=folder))


def paths(asked: Shop) -> list[str]:
    return [each.path for each in asked.asked]


def test_a_service_of_this_home_is_asked(tmp_path: Path) -> None:
    with answering("order", OURS) as ours, client_of(home_with_a_run(tmp_path, ours.url), "order") as client:
        assert client.get("/orders") == {"done": True}
        assert client.get("/orders") == {"done": True}
    assert paths(ours) == ["/health/live", "/orders", "/orders"]


@pytest.mark.parametrize(
    ("service", "installation", "said"),
    [
        ("order", THEIRS, "is not the order service of this home, but the order service of another installation"),
        ("payment", OURS, "is not the order service of this home, but the payment service of it"),
        ("order", None, "The order service at {url} is starting"),
    ],
)
def test_a_service_of_somebody_else_gets_no_request(
    tmp_path: Path, service: str, installation: UUID | None, said: str
) -> None:
    with (
        answering(service, installation) as theirs,
        client_of(home_with_a_run(tmp_path, theirs.url), "order") as client,
        pytest.raises(UnreachableError) as caught,
    ):
        client.ask("POST", "/ops/dead-letters/discard", body={})
    assert said.format(url=theirs.url) in str(caught.value)
    assert paths(theirs) == ["/health/live"]


def test_another_program_on_the_port_gets_no_request_either(tmp_path: Path) -> None:
    with (
        shop(lambda _: Says(200, {"alive": True})) as other,
        client_of(home_with_a_run(tmp_path, other.url), "order") as client,
        pytest.raises(UnreachableError, match="is not the order service of Orderflow"),
    ):
        client.get("/orders")
    assert paths(other) == ["/health/live"]


def test_a_service_that_is_starting_can_be_asked_for_its_health(tmp_path: Path) -> None:
    with answering("order", None) as ours, client_of(home_with_a_run(tmp_path, ours.url), "order") as client:
        assert client.get("/health/ready") == {"done": True}


def test_an_address_that_is_said_outright_is_taken_at_its_word(tmp_path: Path) -> None:
    with answering("order", THEIRS) as far:
        home_with_a_run(tmp_path, "http://127.0.0.1:9")
        settings = as_running(Settings.load(environ={"ORDERFLOW_ORDER_URL": far.url}, home=tmp_path))
        with client_of(settings, "order") as client:
            assert client.get("/orders") == {"done": True}
    assert paths(far) == ["/orders"]


def test_on_a_home_on_which_nothing_has_run_nobody_is_asked(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    with pytest.raises(UnreachableError, match=f"Nothing is running on {tmp_path}"):
        client_of(as_running(Settings.load(environ={}, home=home.path)), "order")
    RunState(ProcessMark.of(os.getpid()), "starting").write(home.state)
    with pytest.raises(UnreachableError, match=f"What runs on {tmp_path} is still starting"):
        client_of(as_running(Settings.load(environ={}, home=home.path)), "order")


@pytest.mark.parametrize(
    ("event_log", "bootstrap"), [(EventLog("kafka", "b:9"), "b:9"), (EventLog("kafka"), "127.0.0.1:7")]
)
def test_whoever_uses_a_home_takes_its_transport(tmp_path: Path, event_log: EventLog, bootstrap: str) -> None:
    Home.open(tmp_path).remember_event_log(event_log, "127.0.0.1:7" if event_log.own_broker else None)
    found = Settings.load(environ={}, home=tmp_path)
    assert (found.transport, found.kafka_bootstrap) == ("kafka", bootstrap)
    said = Settings.load(environ={"ORDERFLOW_TRANSPORT": "kafka", "ORDERFLOW_KAFKA_BOOTSTRAP": "c:1"}, home=tmp_path)
    assert said.kafka_bootstrap == "c:1"


def test_a_home_of_release_0_1_0_is_on_the_log_that_it_was_on(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    home.remember_event_log(EventLog("kafka", "b:9"))
    home.marker.write_text(home.marker.read_text("utf-8").replace('"event_log"', '"carrier"'), "utf-8")
    assert Home.open(tmp_path).event_log() == EventLog("kafka", "b:9")
    found = Settings.load(environ={}, home=tmp_path)
    assert (found.transport, found.kafka_bootstrap) == ("kafka", "b:9")


WHATEVER_IT_RUNS_ON = {"down", "logs", "reset", "settings", "status", "token create", "token list", "token revoke"}


@pytest.mark.parametrize("command", sorted(set(ALL) - WHATEVER_IT_RUNS_ON))
def test_a_setting_that_contradicts_the_home_is_refused(tmp_path: Path, command: str) -> None:
    Home.open(tmp_path).remember_event_log(EventLog("kafka", "broker:9092"))
    words = (*command.split(), *ARGUMENTS.get(command, ()))
    result = invoke(*words, ORDERFLOW_HOME=str(tmp_path), ORDERFLOW_TRANSPORT="postgres")
    assert result.exit_code == 2
    assert "Error: transport is postgres (from environment ORDERFLOW_TRANSPORT), but the home" in result.stderr


def test_what_is_to_be_stopped_can_be_stopped_whatever_the_settings_say(tmp_path: Path) -> None:
    Home.open(tmp_path).remember_event_log(EventLog("kafka", "broker:9092"))
    result = invoke("down", ORDERFLOW_HOME=str(tmp_path), ORDERFLOW_TRANSPORT="postgres")
    assert (result.exit_code, result.stdout) == (0, f"Nothing is running on {tmp_path}\n")


def test_a_service_run_by_hand_joins_the_broker_of_the_run_also_with_databases_of_its_own(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    home.remember_event_log(EventLog("kafka"), "127.0.0.1:7")
    mark = ProcessMark.of(os.getpid())
    RunState(mark, "ready", transport="kafka", bootstrap="127.0.0.1:8").write(home.state)
    found = attached(Settings.load(environ={"ORDERFLOW_DATABASE_URL": "postgresql://a:b@db"}, home=tmp_path))
    assert (found.transport, found.kafka_bootstrap) == ("kafka", "127.0.0.1:8")


def test_the_command_that_starts_a_named_home_can_be_copied(tmp_path: Path) -> None:
    home = tmp_path / "my shop"
    advice = f"orderflow up --home '{home}'"

    missing = CliRunner().invoke(main, ["status", "--home", str(home)])
    assert missing.stderr.endswith(f"with: {advice}\n")
    Home.open(home)
    for command in (["status"], ["order", "list"], ["topic", "tail", "order-events"]):
        assert f"Start it with: {advice}" in CliRunner().invoke(main, [*command, "--home", str(home)]).stderr
    assert call(home, "status").stderr.endswith("Start it with: orderflow up\n")

    order = CliRunner(env={"ORDERFLOW_ORDER_URL": NOBODY}).invoke(main, ["order", "list", "--home", str(home)])
    assert order.stderr.endswith(f"Is it running? Start it with: {advice}\n")


def test_a_home_that_is_stopped_is_told_from_a_service_that_is_away(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    home.remember_installation(OURS)

    stopped = call(tmp_path, "order", "list", ORDER_OPS_URL=NOBODY)
    assert stopped.exit_code == 3
    assert stopped.stderr == (
        f"Error: Nothing is running on {tmp_path}: nothing answers at {NOBODY} (the order service). "
        "Start it with: orderflow up\n"
    )
    RunState(ProcessMark.of(os.getpid()), "ready").write(home.state)
    assert f"Error: Nothing answers at {NOBODY}" in call(tmp_path, "order", "list", ORDER_OPS_URL=NOBODY).stderr


def test_no_link_is_given_to_a_page_that_nobody_knows_of(tmp_path: Path) -> None:
    """What listens on the usual port may be the page of another home."""
    Home.open(tmp_path)
    (tmp_path / "token").write_text("of_0_x", encoding="ascii")

    result = call(tmp_path, "console", "--sign-in")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: Nothing is running on {tmp_path}. Start it with: orderflow up")
    assert call(tmp_path, "console", "--sign-in", CONSOLE_PORT="8123").stdout.startswith(
        "http://127.0.0.1:8123/sign-in"
    )
