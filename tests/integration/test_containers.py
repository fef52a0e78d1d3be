"""Dockerfile and compose.yaml, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from orderflow.access.tokens import Tokens, TokensFile
from orderflow.core.access import OPERATE, READ
from orderflow.http.tls import Certificates, TlsFiles
from orderflow.local.authority import CERTIFICATE_DAYS, RENEWED_DAYS_BEFORE
from orderflow.local.credentials import make_credentials
from orderflow.local.services import databases
from orderflow.registry import SAGA
from orderflow.runtime.exposure import require_closed
from orderflow.runtime.wiring import kafka_security
from orderflow.settings import Settings
from tests.support.compose import FILE, ROOT, Composed, composed, prometheus_here

SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Composed:
    folder = tmp_path_factory.mktemp("deployment") / "credentials"
    make_credentials(folder)
    return composed(folder)


@pytest.mark.parametrize(
    "command",
    [
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
        ("hadolint", "Dockerfile"),
    ],
    ids=["compose.yaml fits the Compose specification", "the Dockerfile is in good practice"],
)
def test_container_files_pass_their_checker(command: tuple[str, ...]) -> None:
    checked = subprocess.run(
        [SCRIPTS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_runs_every_service_and_publishes_on_loopback_only(compose: Composed) -> None:
    published = {}
    for name, service in compose.services.items():
        published[name] = service.get("ports", [])
    for number, name in enumerate(SAGA, 1):
        assert compose.services[name]["command"] == ["run", name]
        assert published.pop(name) == [f"127.0.0.1:{port}:{port}" for port in (8000 + number, 8100 + number)]
    assert published.pop("prometheus") == ["127.0.0.1:9090:9090"]
    assert published.pop("grafana") == ["127.0.0.1:3000:3000"]
    assert not any(published.values())


def test_every_container_is_hardened_and_bounded(compose: Composed) -> None:
    for name, service in compose.services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("", "root"), name
        assert {"mem_limit", "cpus", "pids_limit"} <= service.keys(), name
        assert ":" in service["image"], f"{name} has an image without a version"
    assert compose.whole["networks"]["inside"]["internal"]
    for name in ("postgres", "kafka", "migrate", "grant"):
        assert compose.services[name]["networks"] == ["inside"]


EXACT = re.compile(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?")
OTHERS = ("postgres", "kafka", "prometheus", "grafana")
PINNED = {
    "POSTGRES_IMAGE": "postgres:18.6-bookworm@sha256:" + "a" * 64,
    "KAFKA_IMAGE": "apache/kafka:4.4.0@sha256:" + "b" * 64,
    "PYTHON_IMAGE": "python:3.11.14-slim-bookworm@sha256:" + "c" * 64,
    "PROMETHEUS_IMAGE": "prom/prometheus:v3.5.0@sha256:" + "d" * 64,
    "GRAFANA_IMAGE": "grafana/grafana:12.0.2@sha256:" + "e" * 64,
}


def images(compose: Composed) -> dict[str, str]:
    """What is taken from a registry, by the variable that names it."""
    built = compose.services["order"]["build"]["args"]["PYTHON_IMAGE"]
    taken = {f"{name.upper()}_IMAGE": compose.services[name]["image"] for name in OTHERS}
    ours = {each["image"] for name, each in compose.services.items() if name not in OTHERS}
    assert ours == {"orderflow:local"}
    return {**taken, "PYTHON_IMAGE": built}


def test_images_are_of_an_exact_version_and_can_be_pinned_to_a_digest(compose: Composed) -> None:
    defaults = images(compose)
    for variable, image in defaults.items():
        assert EXACT.fullmatch(image), image
        for document in (FILE, ROOT / "SECURITY.md"):
            assert f"{variable}={image}@sha256:" in document.read_text("utf-8")
    [in_dockerfile] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert in_dockerfile == defaults["PYTHON_IMAGE"]
    assert images(composed(compose.credentials, PINNED)) == PINNED


def test_prometheus_scrapes_every_service_as_who_may_only_read(compose: Composed, tmp_path: Path) -> None:
    prometheus = compose.services["prometheus"]
    assert prometheus["profiles"] == ["monitoring"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in prometheus["volumes"]
    here = prometheus_here(compose, tmp_path)
    job = YAML(typ="safe").load(here.read_text())["scrape_configs"][0]
    assert [each["targets"] for each in job["static_configs"]] == [
        [f"{name}:{8100 + number}"] for number, name in enumerate(SAGA, 1)
    ]
    assert [each["labels"]["service"] for each in job["static_configs"]] == list(SAGA)
    assert job["scheme"] == "https"
    shown = Path(job["authorization"]["credentials_file"]).read_text().strip()
    caller = Tokens(TokensFile(compose.credentials / "tokens" / "tokens.json")).caller_of(shown)
    assert (READ.allows(caller), OPERATE.allows(caller)) == (True, False)
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("there is no promtool (Debian's package prometheus has it)")
    checked = subprocess.run([program, "check", "config", here], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_grafana_starts_with_the_dashboard_and_where_its_numbers_are(compose: Composed) -> None:
    grafana = compose.services["grafana"]
    assert grafana["profiles"] == ["monitoring"]
    mounted = dict(each.split(":")[1::-1] for each in grafana["volumes"])
    provisioning = ROOT / mounted["/etc/grafana/provisioning"]
    source = YAML(typ="safe").load(provisioning / "datasources" / "prometheus.yml")["datasources"][0]
    provider = YAML(typ="safe").load(provisioning / "dashboards" / "orderflow.yml")["providers"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["isDefault"]
    dashboard = f"{provider['options']['path']}/orderflow.json"
    assert (ROOT / mounted[dashboard]).is_file()
    assert compose.environment("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    assert len(compose.secrets("grafana")["grafana_password"].read_text().strip()) >= 24


def test_no_container_is_given_a_password_that_is_not_its_own(compose: Composed) -> None:
    for name in SAGA:
        wanted = {f"{name}_kafka_password", f"{name}_database_password"}
        wanted |= {"bank_database_password"} if name == "payment" else set()
        assert {each for each in compose.secrets(name) if each.endswith("_password")} == wanted
    assert {each for each in compose.secrets("postgres") if each.endswith("password")} == {"postgres_password"}
    assert not {each for each in compose.secrets("kafka") if each.endswith("password")}
    for name in compose.services:
        environment = compose.environment(name)
        assert not [key for key in environment if key.endswith(("PASSWORD", "SECRET", "TOKEN"))], name
        for secret in (path.read_text().strip() for path in compose.secrets(name).values()):
            assert secret not in "".join(environment.values())
        assert all(path.is_file() for path in compose.secrets(name).values()), name


@pytest.mark.parametrize("name", SAGA)
def test_a_service_in_its_container_is_closed_and_has_all_that_it_needs(name: str, compose: Composed) -> None:
    environ = {key: compose.here(name, value) for key, value in compose.environment(name).items()}
    assert "/run/secrets" not in "".join(environ.values())
    settings = Settings.load(environ={**environ, "ORDERFLOW_HOST": "0.0.0.0"}, home=compose.credentials / "none")

    assert require_closed(settings) == ""
    assert (settings.host, settings.ops_host) == ("0.0.0.0", "0.0.0.0")
    security = kafka_security(settings, name)
    password = (compose.credentials / f"{name}_kafka_password").read_text().strip()
    assert (security.protocol, security.username, security.password) == ("sasl_ssl", name, password)
    assert security.options()
    own = (compose.credentials / f"{name}_database_password").read_text().strip()
    assert settings.service_database_url(name).startswith(f"postgresql://orderflow_{name}:{own}@postgres:5432/")
    assert settings.service_database_url(name).endswith(
        f"sslmode=verify-full&sslrootcert={compose.credentials}/ca.pem"
    )


def test_credentials_are_made_once_for_every_unit_and_nobody_else_reads_them(tmp_path: Path) -> None:
    made = make_credentials(tmp_path / "credentials", ["orders.example"])
    names = {path.name for path in made}
    assert {f"{name}_database_password" for name in databases()} <= names
    assert {"operator.token", "shop.token", "compose.env", "kafka.properties", "services.key"} <= names
    assert stat.S_IMODE((tmp_path / "credentials").stat().st_mode) == 0o700
    before = {path: path.read_bytes() for path in made}
    assert make_credentials(tmp_path / "credentials", ["orders.example"]) == []
    assert {path: path.read_bytes() for path in made} == before
    passwords = [path.read_text() for path in made if path.name.endswith("_password")]
    assert len(set(passwords)) == len(passwords)


def test_certificates_that_end_soon_are_made_anew_in_the_files_that_containers_have(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    days_before = timedelta(days=CERTIFICATE_DAYS - RENEWED_DAYS_BEFORE + 1)
    make_credentials(folder, now=lambda: datetime.now(UTC) - days_before)
    renewed = {"services.pem", "services.key", "postgres.pem", "postgres.key", "kafka.pem", "kafka.key"}
    renewed |= {"kafka.both.pem"}
    before = {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir() if path.is_file()}

    made = {path.name for path in make_credentials(folder) if path.parent == folder}
    assert made == renewed
    for name in renewed:
        content, place = before[name]
        path = folder / name
        assert (path.read_bytes() != content, path.stat().st_ino == place) == (True, True), name
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert (folder / "ca.pem").read_bytes() == before["ca.pem"][0]
    Certificates(TlsFiles(certificate=folder / "services.pem", key=folder / "services.key"))
    assert make_credentials(folder) == []
