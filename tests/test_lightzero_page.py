"""docs/lightzero.md shows the commands that the tests on the released LightZero run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from shadow.hosts.lightzero.errors import INSTALL_COMMAND
from tests.lightzero.conftest import sizes
from validator.commands.arguments import parser

ROOT = Path(__file__).parents[1]
INSTALL, RUN, *_ = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "lightzero.md").read_text("utf-8"), flags=re.DOTALL)


def test_the_run_shown_has_the_settings_of_the_tested_one() -> None:
    (command,) = re.findall(r"^kv-lockstep (.*?)$", RUN.replace("\\\n", ""), flags=re.MULTILINE)

    arguments = parser().parse_args(shlex.split(command))

    assert {f"--set {each}" for each in arguments.settings} == {
        f"--set {each}" for each in sizes(max_env_step="600", exp_name="data/cartpole") if each != "--set"
    }
    assert arguments.script.name == "cartpole_unizero_config.py"


def test_the_message_without_lightzero_gives_the_commands_of_the_page_in_their_order() -> None:
    shown = [line for line in INSTALL.splitlines() if line.startswith("pip ")]

    assert INSTALL_COMMAND.split(" && ") == shown[:-1]
    assert shown[-1] == "pip install -e . 'numpy<2'"


def test_the_makefile_installs_the_same_in_the_same_order() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    steps = ("install -r", "install --no-deps", "install --editable")
    places = [makefile.index(f"$(LIGHTZERO_PIP) {step}") for step in steps]
    places.insert(0, makefile.index("$(call INSTALL_TORCH,$(LIGHTZERO_PIP))"))

    assert places == sorted(places)
