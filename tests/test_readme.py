"""What the README shows works when pasted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.warm import script
from validator.commands.arguments import parser
from validator.gate.shipped import TRAININGS, find_file

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = sorted(
    {
        line.split(";")[0]
        for language, block in BLOCKS
        if language in ("", "bash")
        for line in block.splitlines()
        if line.startswith("kv-lockstep ")
    }
)


def test_the_python_example_prints_what_is_shown_below_it(tmp_path: Path) -> None:
    position, program = next((i, block) for i, (language, block) in enumerate(BLOCKS) if language == "python")
    shown = BLOCKS[position + 1][1]

    done = script(program, tmp_path)

    assert (done.returncode, done.stdout) == (0, shown), done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_one(command: str) -> None:
    arguments = parser().parse_args(shlex.split(command)[1:])

    config = getattr(arguments, "config", None)
    assert config is None or (ROOT / find_file(TRAININGS, config, "training configuration")).is_file()


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_a_link_of_the_readme_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)$", README, flags=re.MULTILINE)

    assert targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
