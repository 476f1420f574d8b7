"""``kv-lockstep bundle``: a run as one archive to attach to an issue, and what is in it."""

from __future__ import annotations

import io
import os
import tarfile
import time
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from markupsafe import escape

from reports.content.text import clean, line, plural, size
from reports.disk.json_file import from_text
from reports.disk.layout import RUN_FILE
from reports.disk.repros import REPROS_DIR
from reports.formats.html.page import PAGE_FILE, render
from reports.formats.terminal.layout import Page
from reports.read.packing import BUNDLED, files_of, without_config
from reports.reader import find_runs, read_run
from reports.record.run import Run
from validator.commands.show import console, counting
from validator.errors import LockstepError
from validator.gate.judgement import judge

_GITHUB_TAKES = 25_000_000  # bytes of one attachment
_LIST_FILE = "BUNDLE.txt"
_WHAT = {
    "run.json": "what ran",
    "summary.json": "what it adds up to",
    "evidence": "tensors that differ",
    "trace": "operations, to be played again, and the sizes of the pools",
    "repros": "tests that show it again",
    PAGE_FILE: "its page",
}

Add = Callable[[str, Path | bytes], None]


def main(arguments: Namespace) -> int:
    """Pack.

    Args:
        arguments: ``run, with_config, output``; see ``arguments.py``.

    Returns:
        0: the archive is there.

    Raises:
        LockstepError: If the run goes on, or the archive can't be written.
    """
    out, err = console(), console(stderr=True)
    run = read_run(find_runs(arguments.run)[-1].resolve())
    if run.state == "in progress":
        raise LockstepError(f"{run.path}: is in progress; pack it when it has ended")
    target = arguments.output or Path(f"{run.path.name}.zip")
    opened = {".zip": _zip, ".tar.gz": _tar, ".tgz": _tar}
    opener = next((made for end, made in opened.items() if target.name.endswith(end)), None)
    if opener is None:
        raise LockstepError(f"{target}: expected a name that ends with .zip or .tar.gz")
    names, other = files_of(run.path)
    changed = without_config(run.path, keep=arguments.with_config)
    contents: dict[str, Path | bytes] = {name: run.path / name for name in names} | changed
    contents[PAGE_FILE] = _page(run, changed)
    listed = _listed(contents)
    remarks = list(_remarks(run, names, [name for name in other if name != PAGE_FILE], changed))
    contents[_LIST_FILE] = _text(run, listed, remarks).encode("utf-8", "backslashreplace")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with counting(err, "files", len(contents)) as shown, opener(temporary) as add:
            for done, (name, content) in enumerate(contents.items()):
                add(f"{run.path.name}/{name}", content)
                shown(done + 1, len(contents))
        temporary.replace(target)
    except OSError as problem:
        raise LockstepError(f"{target}: can't be written ({problem.strerror}); name another file: -o FILE") from None
    finally:
        temporary.unlink(missing_ok=True)
    page, n_bytes = Page(out), target.stat().st_size
    out.print(line(f"{target}: {size(n_bytes)}, to be unpacked anywhere", 4000), soft_wrap=True)
    page.table(["", "size", ""], [[name, amount, what] for name, amount, what in listed], n_names=3)
    if n_bytes > _GITHUB_TAKES:
        remarks.append(f"GitHub takes attachments of up to {_GITHUB_TAKES / 1e6:.0f} MB, and this is larger")
    page.points(page.text(remark, limit=1000) for remark in remarks)
    return 0


def _page(run: Run, changed: dict[str, bytes]) -> bytes:
    """Draw the page of what is handed on: without what is left out, and as if the run lay where it is read."""
    about = {name: value for name, value in from_text(changed[RUN_FILE]).items() if name != "digest"} if changed else {}
    shown = replace(run, manifest=about or run.manifest)
    page = render(shown, judge([shown]))
    return page.replace(str(escape(clean(run.path))), run.path.name).encode("utf-8", "backslashreplace")


def _listed(contents: dict[str, Path | bytes]) -> list[tuple[str, str, str]]:
    """Return names, sizes and what it is; of a folder, all together."""
    sizes: dict[str, list[int]] = {}
    for name, content in contents.items():
        sizes.setdefault(name.partition("/")[0], []).append(
            len(content) if isinstance(content, bytes) else content.stat().st_size
        )
    folders = {name.partition("/")[0] for name in contents if "/" in name}
    return [
        (
            f"{name}/, {plural(len(each), 'file')}" if name in folders else name,
            size(sum(each)),
            _WHAT.get(name, "counters, divergences, events" if name.startswith("rank-") else ""),
        )
        for name, each in sizes.items()
    ]


def _remarks(run: Run, names: list[str], other: list[str], changed: dict[str, bytes]) -> Iterator[str]:
    if changed:
        about = from_text(changed[RUN_FILE])[BUNDLED]
        yield (
            f"left out: {', '.join(about['left_out'])}; {', '.join(changed)} are sealed anew, and {RUN_FILE} says with "
            "which digests they were written"
        )
    else:
        yield "every file is as it was written, the configuration too"
    if run.state != "complete":
        yield f"the run is {run.state}"
    if not any(name.startswith(f"{REPROS_DIR}/") for name in names) and run.divergences:
        yield f"no divergence was made a test yet: kv-lockstep shrink {run.path}"
    if other:
        yield f"not packed, for it is no part of a run: {', '.join(other[:20])}"


def _text(run: Run, listed: list[tuple[str, str, str]], remarks: list[str]) -> str:
    name = run.path.name
    rows = [f"  {what:32} {amount:>12}  {said}".rstrip() for what, amount, said in listed]
    commands = [f"  kv-lockstep {command} {name}" for command in ("report", "replay", "shrink")]
    said = [f"- {clean(remark, 1000)}" for remark in remarks]
    return "\n".join(
        [f"Run {name}, packed by kv-lockstep bundle.", "", *rows, "", *said, "", "To see it again:", *commands, ""]
    )


@contextmanager
def _zip(path: Path) -> Iterator[Add]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:

        def add(name: str, content: Path | bytes) -> None:
            if isinstance(content, Path):
                archive.write(content, name)
            else:
                archive.writestr(zipfile.ZipInfo(name, time.localtime()[:6]), content, zipfile.ZIP_DEFLATED)

        yield add


@contextmanager
def _tar(path: Path) -> Iterator[Add]:
    with tarfile.open(path, "w:gz") as archive:

        def add(name: str, content: Path | bytes) -> None:
            if isinstance(content, Path):
                about = archive.gettarinfo(content, name)
                about.uid = about.gid = 0
                about.uname = about.gname = ""  # who packs it is nobody's business
                with content.open("rb") as file:
                    archive.addfile(about, file)
            else:
                about = tarfile.TarInfo(name)
                about.size, about.mtime = len(content), int(time.time())
                archive.addfile(about, io.BytesIO(content))

        yield add
