"""The embedded PostgreSQL: its life, and what may be in its way."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from orderflow.local import preparation
from orderflow.local.errors import LocalError
from orderflow.local.postgres import EmbeddedPostgres
from tests.support.programs import bystander
from tests.support.waiting import eventually

LINUX = sys.platform.startswith("linux")
STARTER = """
import sys, time
from pathlib import Path
from orderflow.local.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(home)
    try:
        made.start()
        yield made
    finally:
        made.stop()


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def crash(server: EmbeddedPostgres) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()


def start_and_be_killed(home: Path) -> int:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    process_id = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    return process_id


async def test_an_empty_folder_becomes_a_server_that_is_durable(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    try:
        assert await ask(server.url(), "SELECT current_setting('fsync')") == "on"
        assert await ask(server.url(), "SELECT current_setting('server_version_num')::int / 10000") == 18
    finally:
        server.stop()


async def test_what_was_committed_survives_a_kill(server: EmbeddedPostgres) -> None:
    await ask(server.url(), "CREATE TABLE kept AS SELECT 1 AS one")
    crash(server)
    server.start()
    assert await ask(server.url(), "SELECT one FROM kept") == 1


async def test_stopping_twice_and_starting_again_is_fine(server: EmbeddedPostgres) -> None:
    server.stop()
    server.stop()
    server.start()
    assert await ask(server.url(), "SELECT 1") == 1


async def test_a_lock_file_that_names_another_program_is_no_obstacle(server: EmbeddedPostgres, home: Path) -> None:
    lock_file = home / "postgres" / "data" / "postmaster.pid"
    lines = lock_file.read_text().splitlines()
    crash(server)
    server_user = lock_file.parent.stat().st_uid
    with bystander(server_user if os.geteuid() == 0 else None) as other:
        lock_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        server.start()
        assert await ask(server.url(), "SELECT 1") == 1
        assert other.poll() is None


@pytest.mark.skipif(os.name != "posix", reason="there are no sockets in the file system")
async def test_a_socket_lock_that_names_another_program_is_no_obstacle(server: EmbeddedPostgres, home: Path) -> None:
    lock_file = home / "postgres" / "run" / ".s.PGSQL.5432.lock"
    lines = lock_file.read_text().splitlines()
    crash(server)
    server_user = lock_file.stat().st_uid
    with bystander(server_user if os.geteuid() == 0 else None) as other:
        lock_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        server.start()
        assert await ask(server.url(), "SELECT 1") == 1
        assert other.poll() is None


async def test_a_server_that_an_earlier_life_left_is_ended_first(server: EmbeddedPostgres, home: Path) -> None:
    assert server.process is not None
    left = server.process
    second = EmbeddedPostgres(home)
    second.start()
    try:
        assert left.wait(timeout=180) is not None
        assert await ask(second.url(), "SELECT 1") == 1
    finally:
        second.stop()


@pytest.mark.skipif(not LINUX, reason="a child hears of its parent's death on Linux only")
async def test_it_ends_when_whoever_started_it_is_killed(home: Path) -> None:
    process_id = start_and_be_killed(home)
    await eventually(lambda: not psutil.pid_exists(process_id))


def test_no_folder_that_was_there_changes_its_mode_or_owner(tmp_path: Path) -> None:
    above = tmp_path / "closed"
    home = above / "home"
    home.mkdir(parents=True)
    above.chmod(0o700)
    home.chmod(0o750)
    before = [(path.stat().st_mode, path.stat().st_uid) for path in (tmp_path, above, home)]
    server = EmbeddedPostgres(home)
    server.start()
    server.stop()
    assert [(path.stat().st_mode, path.stat().st_uid) for path in (tmp_path, above, home)] == before


def test_data_and_passwords_are_for_their_owner_alone(server: EmbeddedPostgres, home: Path) -> None:
    assert stat.S_IMODE((home / "postgres" / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "secrets.json").stat().st_mode) == 0o600


async def test_nobody_gets_in_without_the_password(server: EmbeddedPostgres) -> None:
    password = server.password("orderflow_admin")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(server.url().replace(password, "guessed"), "SELECT 1")


def test_a_home_with_a_long_path_gets_a_socket_elsewhere_and_takes_it_away(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 30))
    server.start()
    folder = Path(server.where)
    try:
        assert asyncio.run(ask(server.url(), "SELECT 1")) == 1
        assert folder.is_dir()
    finally:
        server.stop()
    assert not folder.exists()


async def test_a_port_that_is_asked_for_is_listened_on(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = EmbeddedPostgres(home, port=port)
    server.start()
    try:
        assert f"@127.0.0.1:{port}/" in server.url()
        assert await ask(server.url(), "SELECT 1") == 1
    finally:
        server.stop()


def test_a_taken_port_is_one_sentence(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"PostgreSQL: port {port} on 127.0.0.1 is taken"):
            EmbeddedPostgres(home, port=port).start()


def test_a_folder_that_is_no_data_folder_is_refused(home: Path) -> None:
    (home / "postgres" / "data" / "holiday-photos").mkdir(parents=True)
    with pytest.raises(LocalError, match="is not a PostgreSQL data folder"):
        EmbeddedPostgres(home).start()
    assert (home / "postgres" / "data" / "holiday-photos").is_dir()


def test_data_of_another_version_is_refused(home: Path) -> None:
    (home / "postgres" / "data").mkdir(parents=True)
    (home / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(LocalError, match="was made by PostgreSQL 17, this release comes with 18"):
        EmbeddedPostgres(home).start()


def test_damaged_data_is_one_sentence(server: EmbeddedPostgres, home: Path) -> None:
    server.stop()
    (home / "postgres" / "data" / "global" / "pg_control").write_bytes(b"nonsense")
    with pytest.raises(LocalError, match="PostgreSQL did not start"):
        server.start()


def test_lost_passwords_are_one_sentence_and_no_others_are_made_up(server: EmbeddedPostgres, home: Path) -> None:
    server.stop()
    (home / "secrets.json").unlink()
    with pytest.raises(LocalError, match=r"secrets.json .* is missing, though their data is there; put it back"):
        EmbeddedPostgres(home).start()
    assert not (home / "secrets.json").exists()


def test_an_interrupted_first_start_is_begun_anew(home: Path) -> None:
    (home / "postgres" / "data.new" / "half").mkdir(parents=True)
    server = EmbeddedPostgres(home)
    server.start()
    server.stop()
    assert not (home / "postgres" / "data.new").exists()


def test_a_home_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="cannot create the folder"):
        EmbeddedPostgres(tmp_path / "file" / "home").start()


async def test_an_owner_gets_into_its_own_database_only(server: EmbeddedPostgres) -> None:
    made = await preparation.make_roles_and_databases(
        server.url(), ("order", "bank"), server.password, exclusive=True
    )
    assert made > 0
    assert await ask(server.service_url("orderflow_order"), "SELECT current_user") == "orderflow_order"
    for other in ("orderflow_bank", "postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(server.url(other, "orderflow_order"), "SELECT 1")
    assert (
        await preparation.make_roles_and_databases(server.url(), ("order", "bank"), server.password, exclusive=True)
        == 0
    )


async def test_who_may_not_make_databases_is_given_the_sql(server: EmbeddedPostgres) -> None:
    await preparation.make_roles_and_databases(server.url(), ("order",), server.password)
    modest = server.url("orderflow_order", "orderflow_order")
    with pytest.raises(preparation.MissingRightsError) as refused:
        await preparation.make_roles_and_databases(modest, ("order", "bank"), lambda _: "it's secret")
    assert refused.value.statements[0] == "CREATE ROLE orderflow_bank LOGIN PASSWORD 'it''s secret'"
    for statement in refused.value.statements:
        if not statement.startswith("GRANT"):
            await ask(server.url(), statement)
    assert await preparation.missing_roles_and_databases(modest, ("order", "bank"), lambda _: None) == []


async def test_one_who_may_make_roles_and_databases_needs_not_be_superuser(server: EmbeddedPostgres) -> None:
    await ask(server.url(), "CREATE ROLE maker LOGIN CREATEDB CREATEROLE PASSWORD 'm'")
    url = server.url().replace(f"orderflow_admin:{server.password('orderflow_admin')}", "maker:m")
    assert await preparation.make_roles_and_databases(url, ("order",), lambda _: "o") > 0
    mine = server.url("orderflow_order").replace(
        f"orderflow_admin:{server.password('orderflow_admin')}", "orderflow_order:o"
    )
    assert await ask(mine, "SELECT current_user") == "orderflow_order"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root runs it as somebody else")
def test_as_root_the_server_runs_as_nobody(server: EmbeddedPostgres) -> None:
    assert server.process is not None
    assert psutil.Process(server.process.pid).uids().effective == 65534
