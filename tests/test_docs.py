"""What the pages on a rollout and its CI example tell people to type is understood; what the map shows is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from validator.commands.arguments import parser
from validator.gate.shipped import TRAININGS, find_file

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "docs" / "examples" / "github-actions.yml"
ROLLOUT = ROOT / "docs" / "rollout.md"
# A command ends where the shell says so; what CI or a loop would put in is one number or name.
COMMAND = re.compile(r"kv-lockstep ((?:ab|conformance|gate|report|train|watch)\b[^;|>&`]*)")


def commands() -> list[str]:
    workflow = re.sub(r"\$\{\{.*?\}\}", "3", WORKFLOW.read_text(encoding="utf-8")).replace(
        "--primary 3", "--primary new"
    )
    workflow = re.sub(r"run: >\n\s+(.*)\n\s+", r"run: \1 ", workflow)  # folded lines
    blocks = re.findall(r"```bash\n(.*?)```", ROLLOUT.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for text in (workflow, *blocks) for line in text.splitlines() if not line.lstrip().startswith("#")]
    return sorted({found[1].strip() for line in lines for found in COMMAND.finditer(line)})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_rollout_is_one(command: str) -> None:
    arguments = parser().parse_args(shlex.split(command.replace("$seed", "5")))

    config = getattr(arguments, "config", None)
    assert config is None or (ROOT / find_file(TRAININGS, config, "training configuration")).is_file()
    policy = getattr(arguments, "policy", None)
    assert policy in (None, "$POLICY") or (ROOT / "configs" / "gate" / f"{policy}.toml").is_file()


def test_every_step_of_a_rollout_has_its_command() -> None:
    found = "\n".join(commands())

    for part in ("--policy shadow-to-canary", "--policy canary-to-default", "--policy remove-legacy", "--primary new"):
        assert part in found
    for part in ("ab --config", "conformance --ops", "--record", "--verify", "report"):
        assert part in found


LINKS = sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", ROLLOUT.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("target", LINKS)
def test_a_link_of_the_rollout_leads_somewhere(target: str) -> None:
    assert (ROLLOUT.parent / target).exists()


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:shadow|validator|reports|tests|configs)/[\w./]*)`", ARCHITECTURE)))
FOLDERS = sorted(
    f"{path.parent.relative_to(ROOT)}/"
    for package in ("shadow", "validator", "reports")
    for path in (ROOT / package).rglob("__init__.py")
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_on_the_map_is_there(path: str) -> None:
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def test_every_folder_is_on_the_map_but_those_of_a_single_format() -> None:
    missing = [folder for folder in FOLDERS if folder not in PATHS]

    assert [folder for folder in missing if not folder.startswith("reports/formats/")] == []
