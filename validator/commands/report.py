"""``kv-lockstep report``: show one run in one of many formats; the verdict is shown, and is not the exit code."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

from rich.console import Console

from reports.content.facts import Judgement
from reports.content.text import line
from reports.disk.layout import write_atomically
from reports.reader import find_runs, read_run
from reports.record.run import Run
from validator.commands.show import console
from validator.errors import LockstepError
from validator.gate.judgement import judge


def main(arguments: Namespace) -> int:
    """Show.

    Args:
        arguments: ``run, format, output, to``; see ``arguments.py``.

    Returns:
        0: the run could be shown.

    Raises:
        LockstepError: If the report can't be written, or a tracker can't be used.
    """
    run = read_run(find_runs(arguments.run)[-1])
    judgement = judge([run])
    if arguments.to:
        _track(run, judgement, arguments)
    elif arguments.format == "terminal" and arguments.output is None:
        from reports.formats.terminal.run import render

        render(run, judgement, console())
    else:
        _write(run, judgement, arguments.format, arguments.output)
    _tell_ci(run, judgement)
    return 0


def write_page(run: Run, judgement: Judgement, path: Path | None = None) -> Path:
    """Write the HTML page of a run.

    Raises:
        LockstepError: If it can't be written.
    """
    from reports.formats.html.page import PAGE_FILE, render

    path = path or run.path / PAGE_FILE
    write_output(path, render(run, judgement))
    return path


def write_output(path: Path, text: str) -> None:
    """Write what a person asked for into a file.

    Raises:
        LockstepError: If it can't be written.
    """
    try:
        write_atomically(path, text.encode("utf-8", "backslashreplace"), sync=False)
    except OSError as problem:
        raise LockstepError(f"{path}: {problem.strerror or problem}; name another file: --output FILE") from problem


def _write(run: Run, judgement: Judgement, kind: str, output: Path | None) -> None:
    if kind == "html" and (output is None or str(output) != "-"):
        print(line(write_page(run, judgement, output), 4000))
        return
    text = _rendered(run, judgement, kind)
    if output is None or str(output) == "-":
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        return
    write_output(output, text)
    print(line(output, 4000))


def _rendered(run: Run, judgement: Judgement, kind: str) -> str:
    if kind == "html":
        from reports.formats.html.page import render as render_page

        return render_page(run, judgement)
    if kind == "markdown":
        from reports.formats.markdown import render as render_markdown

        return render_markdown(run, judgement)
    if kind in ("json", "junit"):
        from reports.formats.machine import as_json, as_junit

        return (as_json if kind == "json" else as_junit)(run, judgement)
    from reports.formats.terminal.run import render

    out = Console(file=io.StringIO(), width=140, highlight=False)
    render(run, judgement, out)
    return str(out.file.getvalue())  # type: ignore[attr-defined]


def _track(run: Run, judgement: Judgement, arguments: Namespace) -> None:
    trackers = import_module("reports.formats.trackers")
    page = write_page(run, judgement, arguments.output)
    try:
        print(line(trackers.track(arguments.to, run, judgement, page), 4000))
    except trackers.TrackerUnusable as problem:
        raise LockstepError(str(problem)) from problem


def _tell_ci(run: Run, judgement: Judgement) -> None:
    """Append to the step summary that a CI offers, and annotate under GitHub Actions, on standard error."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        from reports.formats.markdown import render as render_markdown

        try:
            with Path(summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(render_markdown(run, judgement))
        except OSError as problem:
            print(f"the step summary {summary} can't be written: {problem.strerror}", file=sys.stderr)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from reports.formats.machine import workflow_commands

        for command in workflow_commands(run, judgement):
            print(command, file=sys.stderr)
