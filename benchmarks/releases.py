"""An older release beside this one: its commit in a folder of its own, with its own environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.system import ROOT, Release, say


class NoReleaseError(Exception):
    """Why there is no older release to measure, in a sentence."""


@contextmanager
def older(commit: str) -> Iterator[Release]:
    """The release of that commit, ready to run; gone afterwards. Raises NoReleaseError."""
    found = _git("rev-parse", "--short", "--verify", "--quiet", f"{commit}^{{commit}}")
    if found.returncode:
        raise NoReleaseError(
            f"there is no commit {commit} here: measuring an older release needs a clone with its history "
            "(git fetch --unshallow), or leave it out with --against none"
        )
    with tempfile.TemporaryDirectory(prefix="orderflow-release-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the embedded PostgreSQL of root runs as somebody else
        tree = Path(folder) / "tree"
        name = found.stdout.strip()
        made = _git("worktree", "add", "--detach", "--quiet", str(tree), commit)
        if made.returncode:
            raise NoReleaseError(f"git cannot check out {name}: {made.stderr.strip()}")
        try:
            say(f"making the environment of {name}")
            prepared = subprocess.run([sys.executable, str(tree / "bootstrap.py")], check=False)
            if prepared.returncode:
                raise NoReleaseError(f"the environment of {name} cannot be made; what pip said stands above")
            yield Release(name, tree)
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 1, "", "git is not installed")
