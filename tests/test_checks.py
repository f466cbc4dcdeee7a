"""The list of checks: written once, in noxfile.py, and called by the workflow and by ``.ci/run``."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
ON_DEMAND = {"tests", "slow"}  # the sources are tested by readme; the long part takes hours

if not WORKFLOW.exists():
    pytest.skip("the checks are not there: only the tests were copied", allow_module_level=True)

NOXFILE = (ROOT / "noxfile.py").read_text(encoding="utf-8")
SESSIONS = {
    function.name
    for function in ast.parse(NOXFILE).body
    if isinstance(function, ast.FunctionDef)
    and any("nox.session" in ast.unparse(one) for one in function.decorator_list)
}


def test_workflow_runs_each_session() -> None:
    """Every session but those on demand is in the workflow, and no job runs anything else."""
    workflow = WORKFLOW.read_text(encoding="utf-8")
    (matrix,) = re.findall(r"session: \[(.*)\]", workflow)
    named = set(re.findall(r"run: nox .*?-s (\w+)", workflow)) | set(matrix.split(", "))
    assert named == SESSIONS - ON_DEMAND
    runs = re.findall(r"run: (.+)", workflow)
    assert [run for run in runs if not run.startswith(("nox ", "python -m pip install nox", "sudo apt-get "))] == []


def test_ci_run_runs_each_session() -> None:
    """So does the script for one machine."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert set(re.findall(r'\bsession "?(\w+)', script)) == SESSIONS - ON_DEMAND


def test_actions_are_pinned_to_commits() -> None:
    """A tag may be moved to other code; a commit can't be. Beside it is its version."""
    used = re.findall(r"uses: (.+)", WORKFLOW.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_free_threaded_tests_need_no_more_than_the_others() -> None:
    """Their list of packages is that of the others, without packages that have no wheels there, and with one more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}

    usual = names(project["project"]["optional-dependencies"]["test"])
    free_threaded = names(project["dependency-groups"]["free-threaded"])
    assert free_threaded - usual == {"pytest-run-parallel"}


@pytest.mark.parametrize("path", re.findall(r'"(tests/[^"{}]+)"', NOXFILE))
def test_every_path_in_the_noxfile_exists(path: str) -> None:
    """A test that was moved has its new name in the list of checks."""
    assert (ROOT / path).exists()
