from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", PROJECT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", module.LOCK, *module.LOCKS.values()):
        (tmp_path / name).write_text(name)
    for venv in (".venv", ".venv-lowest"):
        venv_python = tmp_path / venv / "bin" / "python"
        venv_python.parent.mkdir(parents=True)
        venv_python.symlink_to(sys.executable)
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    return module


@pytest.fixture
def installed(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "_pip", lambda venv, *options: calls.append((venv.name, *options)))
    return calls


def test_the_second_start_installs_nothing(bootstrap: ModuleType, installed: list[tuple[str, ...]]) -> None:
    assert bootstrap.main([]) == 0
    assert len(installed) == 2
    assert "--require-hashes" in installed[0]
    assert bootstrap.main([]) == 0
    assert len(installed) == 2


def test_a_changed_lock_is_installed(bootstrap: ModuleType, installed: list[tuple[str, ...]]) -> None:
    bootstrap.main([])
    (bootstrap.PROJECT / bootstrap.LOCK).write_text("newer")
    bootstrap.main([])
    assert len(installed) == 4


def test_what_the_tests_need_is_enough_to_run_but_not_the_reverse(
    bootstrap: ModuleType, installed: list[tuple[str, ...]]
) -> None:
    bootstrap.main([])
    bootstrap.main(["--dev"])
    assert str(bootstrap.PROJECT / bootstrap.DEV_LOCK) in installed[2]
    bootstrap.main([])
    bootstrap.main(["--dev"])
    assert len(installed) == 4


def test_the_lowest_versions_have_an_environment_of_their_own(
    bootstrap: ModuleType, installed: list[tuple[str, ...]]
) -> None:
    bootstrap.main(["--dev"])
    bootstrap.main(["--lowest"])
    bootstrap.main(["--lowest"])
    assert len(installed) == 4
    assert installed[2][:3] == (".venv-lowest", "-r", str(bootstrap.PROJECT / bootstrap.LOWEST_LOCK))


def test_an_interrupted_installation_is_done_again(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise bootstrap.BootstrapError("no network")

    monkeypatch.setattr(bootstrap, "_pip", fail)
    assert bootstrap.main([]) == 1
    assert capsys.readouterr().err.endswith("no network\n")
    assert [*bootstrap.PROJECT.glob(".venv/*.json")] == []


def test_an_old_python_is_one_sentence(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 10, 2))
    assert bootstrap.main([]) == 1
    assert capsys.readouterr().err == "Python 3.11 or later is needed; this is 3.10.2\n"


def test_without_a_python_that_is_new_enough_the_shell_script_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(PROJECT / "run_all.sh")],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "Python 3.11 or later is needed" in done.stderr


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-lowest.lock"])
def test_locks_pin_by_hash_and_name_no_host(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert "index-url" not in text
    pins = re.findall(r"^[a-z0-9][a-z0-9._-]*==", text, re.MULTILINE)
    assert len(pins) > 20
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:])


def pins(name: str) -> dict[str, str]:
    """Package → version of a lock."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;]+)", (PROJECT / name).read_text(), re.MULTILINE))


def test_the_tests_run_on_the_versions_that_users_run() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


def test_the_lowest_versions_are_those_that_are_promised() -> None:
    promised = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    bounds = dict(re.findall(r"([a-z0-9-]+)>=([0-9.]+)", " ".join(promised["dependencies"])))
    lowest = pins("requirements-lowest.lock")

    assert {name: lowest[name] for name in bounds if not (lowest[name] + ".0").startswith(bounds[name] + ".")} == {}
