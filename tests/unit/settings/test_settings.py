"""Where settings come from, and what is said when they are wrong."""

from __future__ import annotations

import pickle
from base64 import b64decode
from pathlib import Path

import pytest

from orderflow.registry import SAGA
from orderflow.settings import Secret, Settings, SettingsError
from orderflow.settings.readers import hide_password

SERVER = "postgresql://admin:p%40ss@db.example:5433/postgres?sslmode=require"


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    (tmp_path / "orderflow.toml").write_text(
        "partitions = 2\nbatch_max = 10\nattempts_max = 3\ndemo_catalogue = false\n"
    )
    settings = Settings.load(
        environ={"ORDERFLOW_PARTITIONS": "4", "ORDERFLOW_BATCH_MAX": "20", "ORDERFLOW_LOG_FILE": ""},
        home=tmp_path,
        overrides={"partitions": 8, "batch_max": None},
    )
    assert (settings.partitions, settings.batch_max, settings.attempts_max) == (8, 20, 3)
    assert (settings.demo_catalogue, settings.outbox_slots, settings.log_file) == (False, 16, None)
    assert settings.sources["partitions"] == "command line --partitions"
    assert settings.sources["batch_max"] == "environment ORDERFLOW_BATCH_MAX"
    assert settings.sources["attempts_max"] == f"file {tmp_path / 'orderflow.toml'}"
    assert settings.sources["outbox_slots"] == "default"


def test_home_says_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "orderflow.toml").write_text("order_port = 9\n")
    assert Settings.load(environ={"ORDERFLOW_HOME": str(tmp_path)}).service_port("order") == 9


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"ORDERFLOW_PARTITONS": "3"}, "unknown setting ORDERFLOW_PARTITONS; did you mean ORDERFLOW_PARTITIONS?"),
        ({"ORDERFLOW_ORDER_PORT": "x"}, "ORDERFLOW_ORDER_PORT is 'x'; expected: a whole number from 0 to 65535"),
        ({"ORDERFLOW_ORDER_PORT": "65536"}, "ORDERFLOW_ORDER_PORT is '65536'; expected"),
        ({"ORDERFLOW_KAFKA_BOOTSTRAP": "a:1,b"}, "ORDERFLOW_KAFKA_BOOTSTRAP is 'a:1,b'; expected: HOST:PORT"),
        ({"ORDERFLOW_TRANSPORT": "rabbit"}, "ORDERFLOW_TRANSPORT is 'rabbit'; expected: postgres or kafka"),
        ({"ORDERFLOW_DEMO_CATALOGUE": "maybe"}, "ORDERFLOW_DEMO_CATALOGUE is 'maybe'; expected: true or false"),
        ({"ORDERFLOW_ORDER_URL": "127.0.0.1:8001"}, "ORDERFLOW_ORDER_URL is '127.0.0.1:8001'; expected: a URL"),
        (
            {"ORDERFLOW_OTLP_ENDPOINT": "localhost:4318"},
            "ORDERFLOW_OTLP_ENDPOINT is 'localhost:4318'; expected: a URL",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is 'http://'; expected: a URL such as",
        ),
        (
            {"ORDERFLOW_OTLP_ENDPOINT": "http://a:geheim@h"},
            "ORDERFLOW_OTLP_ENDPOINT is 'http://a:***@h'; expected: a URL",
        ),
        (
            {"ORDERFLOW_OTLP_SAMPLE_RATIO": "5%"},
            "ORDERFLOW_OTLP_SAMPLE_RATIO is '5%'; expected: a number from 0 to 1",
        ),
        (
            {"ORDERFLOW_OTLP_SAMPLE_RATIO": "nan"},
            "ORDERFLOW_OTLP_SAMPLE_RATIO is 'nan'; expected: a number from 0 to 1",
        ),
        ({"ORDERFLOW_CRASH_AT": "relay.reed"}, "ORDERFLOW_CRASH_AT is 'relay.reed'; expected: never, or"),
        (
            {"ORDERFLOW_DATABASE_URL": "mysql://a:geheim@h/d"},
            "ORDERFLOW_DATABASE_URL is 'mysql://a:***@h/d'; expected",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_what_was_wanted(
    environ: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ=environ, home=tmp_path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("partition = 3", "unknown setting partition; did you mean partitions?"),
        ('home = "/x"', "home cannot be set in a file inside it"),
        ("partitions = true", "partitions is 'True'; expected"),
        ("partitions 3", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "orderflow.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ={}, home=tmp_path)
    assert sentence in str(caught.value)
    assert str(tmp_path / "orderflow.toml") in str(caught.value)


STANDARD = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.25",
}


def test_the_standard_variables_of_opentelemetry_count_unless_ours_say_something_else(tmp_path: Path) -> None:
    theirs = Settings.load(environ=STANDARD, home=tmp_path)
    ours = Settings.load(environ={**STANDARD, "ORDERFLOW_OTLP_ENDPOINT": "http://here:4318"}, home=tmp_path)

    assert (theirs.otlp_endpoint, theirs.otlp_sample_ratio) == ("http://collector:4318", "0.25")
    assert theirs.sources["otlp_endpoint"] == "environment OTEL_EXPORTER_OTLP_ENDPOINT"
    assert (ours.otlp_endpoint, ours.otlp_sample_ratio) == ("http://here:4318", "0.25")


def test_who_has_switched_opentelemetry_off_or_samples_otherwise_is_not_misread(tmp_path: Path) -> None:
    off = Settings.load(environ={**STANDARD, "OTEL_SDK_DISABLED": "true"}, home=tmp_path)
    other = {**STANDARD, "OTEL_TRACES_SAMPLER": "jaeger_remote", "OTEL_TRACES_SAMPLER_ARG": "endpoint=http://h"}

    assert (off.otlp_endpoint, off.otlp_sample_ratio) == (None, "1")
    assert Settings.load(environ=other, home=tmp_path).otlp_sample_ratio == "1"


def test_each_service_has_its_own_database_and_role_on_a_server(tmp_path: Path) -> None:
    settings = Settings.load(
        environ={"ORDERFLOW_DATABASE_URL": SERVER, "ORDERFLOW_BANK_DATABASE_URL": "postgresql://b@bank/own"},
        home=tmp_path,
    )
    wanted = "postgresql://orderflow_order:p%40ss@db.example:5433/orderflow_order?sslmode=require"
    assert settings.service_database_url("order") == wanted
    assert settings.service_database_url("bank") == "postgresql://b@bank/own"
    assert not settings.embedded


def test_without_any_database_it_is_embedded_and_asking_for_one_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings.load(environ={}, home=tmp_path)
    assert settings.embedded
    with pytest.raises(SettingsError, match="ORDERFLOW_PAYMENT_DATABASE_URL"):
        settings.service_database_url("payment")


def test_a_service_of_ones_own_has_a_database_and_a_port_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load(environ={}, home=tmp_path).service_database_url("shipping")
    named = str(refused.value).partition("set ")[2].partition(" or")[0]
    (tmp_path / "orderflow.toml").write_text("shipping_port = 8005\n")
    settings = Settings.load(environ={named: "postgresql://s:geheim@db/parcels"}, home=tmp_path)

    assert named == "ORDERFLOW_SHIPPING_DATABASE_URL"
    assert settings.service_database_url("shipping") == "postgresql://s:geheim@db/parcels"
    assert (settings.service_port("shipping"), settings.service_port("returns")) == (8005, 0)
    assert settings.embedded
    assert settings.shown()["shipping_database_url"] == "postgresql://s:***@db/parcels"
    assert "geheim" not in repr(settings)
    assert settings.sources["shipping_port"] == f"file {tmp_path / 'orderflow.toml'}"


@pytest.mark.parametrize(
    "name", ["PAYMNT_DATABASE_URL", "INVENTRY_PORT", "NOTIFICATON_URL", "ALRT_URL", "KAFKA_URL", "mail_port"]
)
def test_a_misspelt_name_is_no_service_of_ones_own(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"unknown setting ORDERFLOW_{name}"):
        Settings.load(environ={f"ORDERFLOW_{name}": "1"}, home=tmp_path)


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    settings = Settings.load(environ={"ORDERFLOW_DATABASE_URL": SERVER}, home=tmp_path)
    for shown in (repr(settings), str(settings.shown()), f"{settings.database_url}"):
        assert "p%40ss" not in shown
        assert "admin:***@db.example" in shown
    with pytest.raises(TypeError):
        pickle.dumps(Secret("x"))
    assert hide_password("postgresql://h/d?user=u&password=geheim") == "postgresql://h/d?user=u&password=***"


def test_a_webhooks_address_and_key_are_not_shown_even_if_they_are_wrong(tmp_path: Path) -> None:
    given = {
        "ORDERFLOW_ALERT_URL": "https://me:geheim@alerts.example:9/T0/geheim?token=geheim",
        "ORDERFLOW_ALERT_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    settings = Settings.load(environ=given, home=tmp_path)
    assert settings.alert_key() == b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert (settings.alert_url or Secret("")).reveal() == given["ORDERFLOW_ALERT_URL"]
    for shown in (repr(settings), str(settings.shown())):
        assert "geheim" not in shown
        assert "MfKQ" not in shown
        assert "https://alerts.example:9/***" in shown
    for name, wrong in (
        ("ALERT_URL", "ftp://alerts.example/geheim"),
        ("ALERT_URL", "alerts.example/geheim"),
        ("ALERT_SECRET", "geheim"),
        ("ALERT_SECRET", "whsec_Z2VoZWlt"),
        ("ALERT_SECRET", "whsec_geheim geheim geheim geheim geheim geheim"),
    ):
        with pytest.raises(SettingsError, match=f"ORDERFLOW_{name} is '\\*\\*\\*'; expected: ") as refused:
            Settings.load(environ={f"ORDERFLOW_{name}": wrong}, home=tmp_path)
        assert "geheim" not in str(refused.value)


def test_services_are_reached_at_host_and_port_unless_a_url_is_given(tmp_path: Path) -> None:
    settings = Settings.load(
        environ={}, home=tmp_path, overrides={"host": "::1", "payment_url": "https://pay.example/"}
    )
    urls = [settings.service_url(name) for name in SAGA]
    assert urls == ["http://[::1]:8001", "https://pay.example", "http://[::1]:8003", "http://[::1]:8004"]


def test_every_setting_is_explained_and_shown(tmp_path: Path) -> None:
    settings = Settings.load(environ={}, home=tmp_path)
    assert set(settings.meanings()) == set(settings.shown()) == set(settings.sources)
    assert all(settings.meanings().values())


def test_operators_endpoints_are_beside_the_service_unless_somebody_says_where(tmp_path: Path) -> None:
    settings = Settings.load(
        environ={"ORDERFLOW_PAYMENT_OPS_URL": "https://ops.example/"},
        home=tmp_path,
        overrides={"host": "0.0.0.0", "order_port": 9000, "inventory_port": 0, "notification_ops_port": 7},
    )
    urls = [settings.service_ops_url(name) for name in SAGA]
    assert urls == ["http://127.0.0.1:9100", "https://ops.example", "http://127.0.0.1:0", "http://127.0.0.1:7"]


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    settings = Settings.load(environ={"ORDERFLOW_TOKEN": "of_1_c0ffee"}, home=tmp_path)
    assert settings.token is not None
    assert settings.token.reveal() == "of_1_c0ffee"
    assert "c0ffee" not in f"{settings!r} {settings.shown()}"
    with pytest.raises(SettingsError, match="expected: a token") as refused:
        Settings.load(environ={"ORDERFLOW_TOKEN": "secret secret"}, home=tmp_path)
    assert "secret secret" not in str(refused.value)


def test_names_that_clients_may_use_have_no_port(tmp_path: Path) -> None:
    settings = Settings.load(environ={"ORDERFLOW_ALLOWED_HOSTS": "Orders.example., order"}, home=tmp_path)
    assert settings.allowed_names() == ("orders.example", "order")
    with pytest.raises(SettingsError, match="without ports"):
        Settings.load(environ={"ORDERFLOW_ALLOWED_HOSTS": "orders.example:443"}, home=tmp_path)


def test_every_secret_can_be_given_by_a_file(tmp_path: Path) -> None:
    given = {
        "database_url": SERVER,
        "kafka_password": "ge heim",
        "alert_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "payment_kafka_password": "pay",
        "shipping_database_url": "postgresql://s:geheim@db/parcels",
    }
    environ = {}
    for name, value in given.items():
        (tmp_path / name).write_text(f"{value}\n")
        environ[f"ORDERFLOW_{name.upper()}_FILE"] = str(tmp_path / name)
    settings = Settings.load(environ=environ, home=tmp_path)
    assert {name: secret.reveal() for name, secret in settings.secrets().items()} == given
    assert settings.sources["kafka_password"] == "environment ORDERFLOW_KAFKA_PASSWORD_FILE"
    (tmp_path / "orderflow.toml").write_text(f'kafka_password_file = "{tmp_path / "kafka_password"}"\n')
    assert (Settings.load(environ={}, home=tmp_path).kafka_password or Secret("")).reveal() == "ge heim"
    every = Settings.load(environ={}, home=tmp_path)
    secrets = [name for name in every.meanings() if name.endswith(("_password", "_secret", "database_url"))]
    assert {"alert_url", "token", *secrets} >= {
        "log_database_password",
        "order_kafka_password",
        "kafka_ssl_key_password",
    }
    for name in ("alert_url", "token", *secrets):
        with pytest.raises(SettingsError, match="cannot be read: No such file"):
            Settings.load(environ={f"ORDERFLOW_{name.upper()}_FILE": "/no/such/file"}, home=tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"mysql://u:geheim@h/d",
            "ORDERFLOW_DATABASE_URL_FILE is '{file}'; expected: a file that holds a server's URL",
        ),
        (b"\xff\xfe", "ORDERFLOW_DATABASE_URL_FILE is '{file}'; expected: a file that holds"),
        (b"", "ORDERFLOW_DATABASE_URL_FILE is '{file}'; expected: a file that holds"),
    ],
)
def test_a_file_that_holds_something_else_is_one_sentence_without_what_it_holds(
    content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "held").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ={"ORDERFLOW_DATABASE_URL_FILE": str(tmp_path / "held")}, home=tmp_path)
    assert sentence.format(file=tmp_path / "held") in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_secret_and_its_file_together_are_refused_and_no_other_setting_has_a_file(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("geheim")
    both = {"ORDERFLOW_KAFKA_PASSWORD": "geheim", "ORDERFLOW_KAFKA_PASSWORD_FILE": str(tmp_path / "held")}
    with pytest.raises(
        SettingsError, match="ORDERFLOW_KAFKA_PASSWORD and ORDERFLOW_KAFKA_PASSWORD_FILE are both set"
    ):
        Settings.load(environ=both, home=tmp_path)
    with pytest.raises(SettingsError, match="unknown setting ORDERFLOW_PARTITIONS_FILE"):
        Settings.load(environ={"ORDERFLOW_PARTITIONS_FILE": str(tmp_path / "held")}, home=tmp_path)


def test_what_a_supervisor_pipes_wins(tmp_path: Path) -> None:
    settings = Settings.load(environ={"ORDERFLOW_TOKEN": "a"}, home=tmp_path, piped={"token": "b"})
    assert (settings.token or Secret("")).reveal() == "b"
    with pytest.raises(SettingsError, match=r"token of standard input is '\*\*\*'; expected"):
        Settings.load(environ={}, home=tmp_path, piped={"token": "not a token"})
    with pytest.raises(SettingsError, match=r"standard input: unknown setting tokn; did you mean token\?"):
        Settings.load(environ={}, home=tmp_path, piped={"tokn": "b"})
