"""Where the Makefile takes torch from: asked once, and said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.guards import guards

ROOT = Path(__file__).parents[1]
# Makes no environment, only its folder: what counts here is what pip would be asked for.
PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exec {real} "$@"; fi
mkdir -p "$3"
"""


class Index(BaseHTTPRequestHandler):
    """Answers that there is an index of wheels."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *about: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    """The address of an index that can be reached."""
    with HTTPServer(("127.0.0.1", 0), Index) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def set_up(folder: Path, index: str) -> list[str]:
    """Return the lines of a set-up in which pip only says what it was asked for."""
    python = folder / "python"
    python.write_text(PYTHON.format(real=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    variables = {"PYTHON": python, "VENV": folder / "venv", "PIP": "echo pip", "TORCH": "torch", "TORCH_INDEX": index}
    command = ["make", "venv", *(f"{name}={said}" for name, said in variables.items())]
    # Below 'make test', make would take this for a part of itself.
    environment = {name: said for name, said in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    environment["no_proxy"] = "127.0.0.1"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@guards("Makefile", "--extra-index-url $(TORCH_INDEX)'", "'")
def test_an_index_that_can_be_reached_is_given_to_pip(tmp_path: Path, index: str) -> None:
    _, said, torch, rest = set_up(tmp_path, index)

    assert said == f"torch comes from {index}"
    assert torch == f"pip install --extra-index-url {index} torch"
    assert rest == "pip install --editable .[train,dev]"


def test_an_index_out_of_reach_is_said_once_and_not_tried_again(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"  # of the discard service, which no machine runs

    _, said, torch, _ = set_up(tmp_path, nowhere)

    assert said == f"{nowhere} can't be reached, so torch comes from the package index"
    assert torch == "pip install torch"
