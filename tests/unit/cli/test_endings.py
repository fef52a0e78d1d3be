"""Every run ends in a stable exit code, and an error in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path

import click
import pytest

from orderflow.__main__ import run
from orderflow.cli import COMMANDS, main
from orderflow.cli.errors import CliError, NotFoundError, RequestRefusedError, TimeUpError, UnreachableError
from orderflow.cli.lazy import code_of
from orderflow.local.errors import LocalError
from orderflow.local.state import ProcessMark, Running, RunState
from orderflow.registry import SAGA
from orderflow.settings import SettingsError
from tests.support.shop import Asked, Says, shop
from tests.unit.cli.calls import NOBODY, ORDER_ID, call


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CliError("x"), 1),
        (LocalError("x"), 1),
        (click.ClickException("x"), 1),
        (click.UsageError("x"), 2),
        (SettingsError("x"), 2),
        (UnreachableError("x"), 3),
        (NotFoundError("x"), 4),
        (RequestRefusedError("x"), 5),
        (TimeUpError("x"), 6),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    def fail() -> None:
        raise error

    assert code_of(fail, []) == code


def test_a_defect_of_ours_keeps_its_trace() -> None:
    with pytest.raises(ZeroDivisionError):
        code_of(lambda: 1 // 0, [])


def test_an_error_is_one_sentence_on_standard_error(tmp_path: Path) -> None:
    result = call(tmp_path, "order", "list", ORDER_URL=NOBODY)

    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == (
        f"Error: Nothing answers at {NOBODY} (the order service). Is it running? Start it with: orderflow up\n"
    )


def test_with_json_an_error_is_a_document_on_standard_error(tmp_path: Path) -> None:
    result = call(tmp_path, "order", "list", "--json", ORDER_URL=NOBODY)

    error = json.loads(result.stderr)["error"]
    assert (error["kind"], error["exit_code"]) == ("unreachable", result.exit_code)
    assert NOBODY in error["message"]


def test_a_wrong_setting_is_a_usage_error_that_names_it(tmp_path: Path) -> None:
    result = call(tmp_path, "settings", BATCHMAX="1")

    assert result.exit_code == 2
    assert "ORDERFLOW_BATCHMAX; did you mean ORDERFLOW_BATCH_MAX?" in result.stderr


def test_a_hostile_value_is_escaped_in_the_error_about_it(tmp_path: Path) -> None:
    result = call(tmp_path, "order", "show", "\x1b[2Jx")

    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    result = call(tmp_path, "oder")

    assert result.exit_code == 2
    assert "No such command 'oder'" in result.stderr


def test_the_reader_going_away_is_no_trace() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        command = [sys.executable, "-m", "orderflow", "settings", "--json"]
        done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(write_end)

    assert (done.returncode, done.stderr) == (141, "")


def test_the_list_of_commands_imports_none_of_them() -> None:
    probe = (
        "import sys; from orderflow.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'rich', 'httpx2', 'asyncpg', 'asyncio', 'psutil', 'msgspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert "Place orders" in done.stdout


@pytest.mark.parametrize(
    "command", [("order", "list", "--json"), ("health", "--json"), ("lag", "--json"), ("status",)]
)
def test_who_asks_a_service_loads_nothing_heavy(command: Sequence[str], tmp_path: Path) -> None:
    """A person waits for each command to start: what takes long to load is for those that need it."""
    mark = ProcessMark.of(os.getpid())
    probe = (
        "import sys; from orderflow.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx2', 'asyncpg', 'asyncio', 'psutil', 'msgspec', 'concurrent.futures', 'importlib.metadata'}\n"
        "print('\\n' + str(sorted(heavy & set(sys.modules))))"
    )
    ready = {"ready": True, "problems": {}, "faults": [], "orders": [], "next": None}

    def answer(asked: Asked) -> Says:
        return Says(200, [] if asked.path.startswith("/ops/") else ready)

    with shop(answer) as server:
        urls = {f"ORDERFLOW_{name.upper()}_URL": server.url for name in SAGA}
        (tmp_path / "home.json").write_text('{"format": 1}')
        RunState(mark, "ready", (Running("order", "service", mark.pid, mark.started, server.url),)).write(
            tmp_path / "state.json"
        )
        done = subprocess.run(
            [sys.executable, "-c", probe, *command],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **urls, "ORDERFLOW_HOME": str(tmp_path)},
        )

    assert (done.stdout.splitlines()[-1], done.stderr) == ("[]", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_its_help_has_an_example(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None

    parts = [command, *(command.commands.values() if isinstance(command, click.Group) else [])]
    for part in parts:
        assert "orderflow " in f"{part.help} {part.epilog}", part.name


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("arguments", [("settings", "--json"), ("settings",), ("--help",)])
def test_an_output_that_takes_nothing_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "orderflow", *arguments],
            env=os.environ,
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "Cannot write to standard output: No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("dlt", "discard", "--group", "", "--reason", "noise"),
        ("dlt", "replay", "--group="),
        ("order", "place", "--idempotency-key", ""),
        ("order", "place", "--customer", " "),
        ("topic", "tail", "order-events", "--key", ""),
        ("outbox", "republish", "--topic", "", "--rehearse"),
        ("up", "--kafka-bootstrap", ""),
        ("up", "--home", ""),
        ("status", "--home="),
        ("grant", "--admin-options", ""),
        ("credentials", ""),
    ],
)
def test_an_option_whose_variable_is_not_set_is_refused(
    tmp_path: Path, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--group "$GROUP"` without a GROUP would be every group, an empty key none, an empty home this folder."""
    monkeypatch.chdir(tmp_path)
    result = call(tmp_path, *arguments, ORDER_URL=NOBODY)

    assert result.exit_code == 2
    assert "it is empty" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("order", "place", "--wait", "nan"),
        ("order", "watch", ORDER_ID, "--timeout", "nan"),
        ("demo", "--rate", "nan"),
    ],
)
def test_what_is_not_a_number_is_refused(tmp_path: Path, arguments: Sequence[str]) -> None:
    result = call(tmp_path, *arguments, ORDER_URL=NOBODY)

    assert result.exit_code == 2
    assert "nan is not a number" in result.stderr


def test_a_folder_that_cannot_be_used_is_named_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call(tmp_path, "schema", "export", "--into", str(tmp_path / "file" / "schemas"))

    assert result.exit_code == 1
    assert result.stderr == f"Error: Cannot use {tmp_path / 'file' / 'schemas'}: Not a directory\n"


@pytest.mark.parametrize("group", ["order", "topic", "outbox", "fault", "expired", "outage", "schema", "dlt"])
def test_a_list_of_commands_has_whole_sentences(tmp_path: Path, group: str) -> None:
    _, _, commands = call(tmp_path, group, "--help").stdout.partition("Commands:")

    assert commands.strip()
    assert "..." not in commands


def test_a_fault_of_no_service_is_refused(tmp_path: Path) -> None:
    result = call(tmp_path, "fault", "clear", "nix-9")

    assert result.exit_code == 2
    assert "'nix-9' is not a fault" in result.stderr


def test_what_settling_does_is_said_in_a_sentence(tmp_path: Path) -> None:
    result = call(tmp_path, "payment", "settle", ORDER_ID, "--as", "refunded", "--reason", "seen")

    assert result.exit_code == 5
    assert f"settles the payment of order {ORDER_ID} as refunded and moves money" in result.stderr


def test_a_command_interrupted_while_it_is_read_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname == "orderflow.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "orderflow.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130
