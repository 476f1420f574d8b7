"""A shrunk divergence as a test file of about ten lines, which runs alone; it is tried before it is handed out.

The plain form plays the calls on the cache at fault alone and asserts one answer, which a sound cache gives. Where that
shows nothing (what was found is no answer, or concerns the host's own memory), the other form plays them on both under
the harness and asserts that nothing is charged.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from reports.record.records import Divergence
from reports.record.words import Cause, Fault
from shadow.manager import KVCacheManager
from validator.proof.selftest import surroundings_kept
from validator.proof.stream import LIFE_CYCLE
from validator.replay.caches import Sides, imported
from validator.replay.plain import Plain, appending, keyed
from validator.replay.shrinking import Found
from validator.replay.texts import Entries, call


class Repro(NamedTuple):
    """A test file.

    Attributes:
        source: Its text.
        calls: Calls of the cache in it.
        plain: Whether it needs no harness.
        fails: Whether it was seen to fail on the cache at fault.
        passes: Whether it was seen to pass with a sound cache in its place.
    """

    source: str
    calls: int
    plain: bool
    fails: bool
    passes: bool


def repro(found: Found, sides: Sides, divergence: Divergence, number: int, run_id: str) -> Repro:
    """Write a test, and try it on the cache at fault and on a sound one.

    Args:
        found: What the divergence was shrunk to.
        sides: Both caches.
        divergence: As it was recorded.
        number: What the test is named after.
        run_id: The run that it was found in.

    Returns:
        The first form that fails as it should and passes on a sound cache; else the last one that was tried.
    """
    forms = _Forms(found, sides, divergence, number, run_id)
    tried = None
    for source, calls, plain in forms.all():
        tried = Repro(source, calls, plain, *forms.outcomes(source))
        if tried.fails and tried.passes:
            return tried
    assert tried is not None
    return tried


class _Forms:
    """The forms that a test may take."""

    def __init__(self, found: Found, sides: Sides, divergence: Divergence, number: int, run_id: str) -> None:
        self.steps, self.setting = found.shrunk
        self._found, self._sides, self._divergence = found, sides, divergence
        self._number, self._run_id = number, run_id
        self._entries = Entries(step.entry for step in self.steps if step.entry is not None)
        fault = divergence.fault
        self._guilty = ["control"] if fault is Fault.CONTROL else ["candidate"] if fault is Fault.CANDIDATE else []

    def all(self) -> Iterator[tuple[str, int, bool]]:
        """Yield text, number of calls, and whether it is plain."""
        overwriting = ((False, False), (True, False), (False, True), (True, True))
        for side in self._guilty:
            for given, answers in overwriting if self._sides.kind.name == "pools" else overwriting[:1]:
                with surroundings_kept():
                    made = self._plain(side, given, answers)
                if made is not None:
                    lines = [f"cache = {self._sides.text(side, self.setting)}", *made.lines]
                    yield self._test([self._sides.classes[side]], made.helpers, lines), made.calls, True
        yield (*self._watched(), False)

    def outcomes(self, source: str) -> tuple[bool, bool]:
        """Run a test as it stands, and with a sound cache in the place of that at fault."""
        sound = source
        for side in self._guilty or ("control", "candidate"):
            text, name = self._sound(side)
            sound = sound.replace(f" = {self._sides.text(side, self.setting)}\n", f" = {text}\n")
            sound = sound.replace("import torch\n", f"import torch\n{_import(name)}", 1)
        return not _passes(source, self._number), _passes(sound, self._number)

    def _sound(self, side: str) -> tuple[str, str]:
        """Return how a sound cache is built, and its name: of pools the manager, else what stands on the other side."""
        if self._sides.kind.name == "pools":
            text = self._sides.text(side, self.setting)
            return f"KVCacheManager{text[text.index('(') :]}", "new"
        other = "candidate" if side == "control" else "control"
        return self._sides.text(other, self.setting), self._sides.classes[other]

    def _plain(self, side: str, given: bool, answers: bool) -> Plain | None:
        calls = [step for step in self.steps if step.verb not in LIFE_CYCLE]
        try:
            both = self._sides.build(self.setting)
            cache, other = both[side == "candidate"], both[side == "control"]
            if self._sides.kind.name == "append":
                return appending(calls, self._entries, cache, self.setting.config["windows"])
            if self._sides.kind.name == "pools":
                other = KVCacheManager(dict(self.setting.config), self.setting.env_num)
            return keyed(calls, self._entries, cache, other, given, answers)
        except Exception:  # of a stranger's cache: the other form says what it does
            return None

    def _watched(self) -> tuple[str, int]:
        """Return the form that needs the harness."""
        sides = self._sides
        names = [sides.classes[side] for side in ("control", "candidate")]
        imports = "from validator import ValidationConfig\nfrom validator.proof.trial import Trial\n"
        shape = ""
        if sides.kind.name == "append":
            imports += "from validator.shapes.append import AppendShape\n"
            shape = f", shape=AppendShape({self.setting.config['windows']})"
        looks = ", look_first=0" if self._divergence.cause is not Cause.MEDDLED else ""
        share = self._found.config.audit_share
        lines = [
            f"control = {sides.text('control', self.setting)}",
            f"candidate = {sides.text('candidate', self.setting)}",
            f"settings = ValidationConfig(overhead_budget=0.0, audit_share={share})",
            f'trial = Trial(control, candidate, "{sides.primary}", settings{shape}{looks})',
            "cache = trial.cache",
        ]
        for step in self.steps:
            text = self._entries.call(step.entry) if step.entry is not None else ""
            lines.append(
                call(step, text) if step.verb not in LIFE_CYCLE else call(step).replace("cache", "trial.pair", 1)
            )
        lines += ["trial.finish()", "assert [one.explanation for one in trial.divergences] == []"]
        return self._test(names, "", lines, imports), len(self.steps)

    def _test(self, classes: Sequence[str], helpers: str, lines: Sequence[str], imports: str = "") -> str:
        one = self._divergence
        told = f"{one.cause.value}, {one.fault.value} at fault. {self._found.explanation}".replace("\\", "/")
        where = f"Shrunk by kv-lockstep from operation {one.op_index:,} of run {self._run_id}, divergence {one.id}."
        head = [*textwrap.wrap(told.replace('"""', "'''"), 110), "", *textwrap.wrap(where, 110)]
        froms = {_import(name) for name in classes} | set(imports.splitlines(keepends=True)) | self._entries.imports
        if any("PretrainedConfig(" in line for line in lines):
            froms.add("from transformers import PretrainedConfig\n")
        modules, body = "".join(sorted(froms)), "\n".join(f"    {line}" for line in lines)
        docstring = "\n".join(head)
        return (
            f'"""{docstring}\n"""\n\nimport torch\n\n{modules}\n{self._entries.helpers}{helpers}'
            f"\ndef test_divergence_{self._number:03d}():\n{body}\n"
        )


def _import(name: str) -> str:
    module, kind = imported(name)
    return f"from {module} import {kind}\n"


def _passes(source: str, number: int) -> bool:
    """Run a test in a namespace of its own."""
    namespace: dict[str, Any] = {"__name__": "repro"}
    try:
        with surroundings_kept():
            exec(compile(source, f"test_divergence_{number:03d}.py", "exec"), namespace)
            namespace[f"test_divergence_{number:03d}"]()
    except Exception:
        return False
    return True
