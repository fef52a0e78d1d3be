from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
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
    for name in ("pyproject.toml", module.LOCK, module.DEV_LOCK):
        (tmp_path / name).write_text(name)
    venv_python = tmp_path / ".venv" / "bin" / "python"
    venv_python.parent.mkdir(parents=True)
    venv_python.symlink_to(sys.executable)
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "orderflow-stamp.json")
    return module


@pytest.fixture
def installed(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "_pip", lambda *options: calls.append(options))
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


def test_an_interrupted_installation_is_done_again(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: str) -> None:
        raise bootstrap.BootstrapError("no network")

    monkeypatch.setattr(bootstrap, "_pip", fail)
    assert bootstrap.main([]) == 1
    assert capsys.readouterr().err.endswith("no network\n")
    assert not bootstrap.STAMP.exists()


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
        timeout=30,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "Python 3.11 or later is needed" in done.stderr


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_pin_by_hash_and_name_no_host(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert "index-url" not in text
    pins = re.findall(r"^[a-z0-9][a-z0-9._-]*==", text, re.MULTILINE)
    assert len(pins) > 20
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:])


def test_the_tests_run_on_the_versions_that_users_run() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9][^ ]*==[^ ]+", (PROJECT / name).read_text(), re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")
