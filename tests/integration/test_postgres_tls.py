"""PostgreSQL over TLS: whoever we are, by every connection that we open; and what is wrong, in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from orderflow.core.postgres.sessions import connect
from orderflow.core.store import StoreUnavailableError
from orderflow.local.authority import Authority
from tests.support.postgres import PostgresServer
from tests.support.postgres_tls import TlsFront, binaries, server_with_openssl
from tests.support.sample.running import migrate, running, settings
from tests.support.waiting import eventually


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def strangers(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "strangers")
    made.issue("postgres")
    return made


async def said_of(url: str) -> str:
    """What a connection to it comes to: a sentence, or nothing."""
    try:
        connection = await connect(url, application_name="test")
    except (StoreUnavailableError, ValueError) as error:
        # A connection over TLS is closed only when the server has closed its end too.
        await eventually(lambda: not is_connected(urlsplit(url).port))
        return str(error)
    await connection.close()
    return ""


def is_connected(port: int | None) -> bool:
    """Whether this process has a connection to that port."""
    return any(each.raddr and each.raddr.port == port for each in psutil.Process().net_connections("tcp"))


async def test_a_service_opens_no_connection_without_tls(
    postgres: PostgresServer, database_url: str, authority: Authority, tmp_path: Path
) -> None:
    async with TlsFront(postgres.port, authority.issue("server")).open() as front:
        url = front.url(database_url, sslmode="verify-full", sslrootcert=authority.certificate)
        await migrate(url)
        async with running(settings(url, tmp_path)) as service:
            assert (await service.client.post("/counters/a", json={"amount": 3})).status_code == 201
            assert (await service.client.get("/health/ready")).status_code == 200
        assert front.secured > 4
        assert front.plain == 0


async def test_a_certificate_that_nobody_vouches_for_is_one_sentence(
    postgres: PostgresServer, database_url: str, authority: Authority, strangers: Authority
) -> None:
    elsewhere = authority.issue("elsewhere", ["db.example"])
    async with TlsFront(postgres.port, strangers.issue("server")).open() as front:
        said = await said_of(front.url(database_url, sslmode="verify-ca", sslrootcert=authority.certificate))
        assert said.startswith("the certificate of PostgreSQL is not one that sslrootcert vouches for (")
        assert "\n" not in said
        # Without a file nobody has said whom to trust (libpq's `require`).
        assert await said_of(front.url(database_url, sslmode="require")) == ""
    async with TlsFront(postgres.port, elsewhere).open() as front:
        said = await said_of(front.url(database_url, sslmode="verify-full", sslrootcert=authority.certificate))
        assert "sslrootcert vouches for (IP address mismatch" in said
        assert await said_of(front.url(database_url, sslmode="verify-ca", sslrootcert=authority.certificate)) == ""


async def test_our_own_certificate_is_shown(
    postgres: PostgresServer, database_url: str, authority: Authority, strangers: Authority
) -> None:
    async with TlsFront(postgres.port, authority.issue("server"), authority.certificate).open() as front:
        ours, theirs = authority.issue("client"), strangers.issue("client")
        shown = {"sslmode": "require", "sslcert": ours.certificate, "sslkey": ours.key}
        assert await said_of(front.url(database_url, **shown)) == ""
        assert await said_of(front.url(database_url, sslmode="require")) != ""
        foreign = {"sslmode": "require", "sslcert": theirs.certificate, "sslkey": theirs.key}
        assert await said_of(front.url(database_url, **foreign)) != ""
        mixed = await said_of(front.url(database_url, **{**shown, "sslkey": theirs.key}))
        assert mixed.startswith("there is no TLS with PostgreSQL (key values mismatch): look at sslmode, sslrootcert")


async def test_a_server_without_tls_is_refused_where_tls_is_wanted(database_url: str) -> None:
    assert "rejected SSL upgrade" in await said_of(f"{database_url}?sslmode=require")
    assert await said_of(f"{database_url}?sslmode=prefer") == ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            "sslmode=verify-full&sslrootcert=/no/such",
            "sslrootcert /no/such cannot be read: No such file or directory",
        ),
        ("sslmode=require&sslcert=/no/cert&sslkey=/no/key", "sslcert /no/cert cannot be read: No such file"),
        ("sslmode=sometimes", "`sslmode` parameter must be one of: disable, allow, prefer, require, verify-ca"),
        (
            "sslmode=verify-full&sslrootcert={rubbish}",
            "there is no TLS with PostgreSQL (no certificate or crl found)",
        ),
    ],
)
def test_what_is_wrong_in_a_url_is_one_sentence_of_the_command_line(
    options: str, sentence: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    (tmp_path / "rubbish").write_text("rubbish")
    url = f"postgresql://admin:geheim@127.0.0.1:{postgres.port}?{options.format(rubbish=tmp_path / 'rubbish')}"
    done = subprocess.run(
        [sys.executable, "-m", "orderflow", "migrate", "--database-url", url],
        env={**os.environ, "ORDERFLOW_HOME": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert sentence in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "geheim" not in done.stderr


@pytest.fixture
def openssl_port(authority: Authority) -> Iterator[int]:
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL with OpenSSL is installed on this machine; the embedded one has none")
    with server_with_openssl(folder, authority.issue("server"), authority.certificate) as port:
        yield port


async def test_on_a_server_with_openssl_each_mode_means_what_libpq_says(
    openssl_port: int, authority: Authority, strangers: Authority
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{openssl_port}/postgres"
    for options in ("", "?sslmode=require", f"?sslmode=verify-full&sslrootcert={authority.certificate}"):
        connection = await connect(url + options, application_name="test")
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        await connection.execute("CREATE ROLE certified LOGIN") if not options else None
        await connection.close()
    assert "no encryption" in await said_of(f"{url}?sslmode=disable")
    assert "vouches for" in await said_of(f"{url}?sslmode=verify-ca&sslrootcert={strangers.certificate}")
    certified = authority.issue("certified")
    own = f"sslmode=require&sslcert={certified.certificate}&sslkey={certified.key}"
    by_certificate = url.replace("postgres@", "certified@")
    assert await said_of(f"{by_certificate}?{own}") == ""
    assert "certificate" in await said_of(f"{by_certificate}?sslmode=require")
