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
from reports.record.words import Fault
from shadow.manager import KVCacheManager
from validator.proof.selftest import surroundings_kept
from validator.proof.stream import LIFE_CYCLE, Step
from validator.replay.caches import Sides
from validator.replay.shrinking import Found

_SAME = '''
def same(found, expected):
    """Tell whether two entries hold equal bits."""
    if found is None or expected is None:
        return found is expected
    pairs = [pair for one, other in zip(found, expected) for pair in zip(one.get(), other.get())]
    return len(found) == len(expected) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)

'''
_OVERWRITE = '''
def overwrite(given):
    """Write into an entry, as a host does that goes on to use its buffers."""
    for layer in given or ():
        for part in layer.get():
            part.fill_(7)

'''


_ENTRY = '''
def entry({signature}):
    """Make an entry that no other number makes."""
    made = KeysValues({shape}, dtype={dtype})
    generator = torch.Generator().manual_seed(number)
    for layer in made:
        for part, size in zip((layer._k_cache, layer._v_cache), {sizes}):
            part.update({drawn}.to({dtype}))
    return made

'''
_USUAL = {"batch": 1, "heads": 1, "tokens": 1, "head_dim": 2, "layers": 1, "sizes": (1, 1), "dtype": "torch.float32"}


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
        bodies = list(dict.fromkeys(step.entry for step in self.steps if step.entry is not None))
        self._bodies = {body: index for index, body in enumerate(bodies)}
        fault = divergence.fault
        self._guilty = ["control"] if fault is Fault.CONTROL else ["candidate"] if fault is Fault.CANDIDATE else []

    def all(self) -> Iterator[tuple[str, int, bool]]:
        for side in self._guilty:
            for given, answers in ((False, False), (True, False), (False, True), (True, True)):
                with surroundings_kept():
                    made = self._plain(side, given, answers)
                if made is not None:
                    yield (*made, True)
        yield (*self._watched(), False)

    def outcomes(self, source: str) -> tuple[bool, bool]:
        """Run a test as it stands, and with the cache at fault replaced by the manager."""
        sound = source
        for side in self._guilty or ("control", "candidate"):
            module, _, kind = _imported(self._sides.classes[side])
            sound = sound.replace(f"from {module} import {kind}\n", "").replace(f"{kind}(", "KVCacheManager(")
        return not _passes(source, self._number), _passes(_with_manager(sound), self._number)

    # -- the plain form ------------------------------------------------------------------------------------------------

    def _plain(self, side: str, given: bool, answers: bool) -> tuple[str, int] | None:
        """Play the calls on the cache at fault and on a sound one, and assert the first answer in which they differ."""
        kind = _imported(self._sides.classes[side])[2]
        namespace: dict[str, Any] = {}
        head = self._head([self._sides.classes[side]], _SAME + (_OVERWRITE if given or answers else ""))
        try:
            exec(_with_manager(head), namespace)
            cache = self._sides.build(self.setting.config, self.setting.env_num)[side == "candidate"]
        except Exception:
            return None
        sound = KVCacheManager(dict(self.setting.config), self.setting.env_num)
        lines = [f"cache = {self._built(kind)}"]
        calls = [step for step in self.steps if step.verb not in LIFE_CYCLE]
        probes = _probes(calls)
        for at, step in enumerate([*calls, *probes]):
            call = f"cache.{step.verb}({', '.join(self._arguments(step))})"
            expected, _ = _played(sound, step, self._made(namespace, step))
            entry = self._made(namespace, step)
            answer, error = _played(cache, step, entry)
            if error is not None:
                return self._test(head, [*lines, f"{call}  # raises {type(error).__name__}"]), at + 1
            is_get = step.entry is None and "get" in step.verb
            if is_get and not _same(namespace, answer, expected):
                which = self._which(namespace, expected)
                asserted = f"assert {call} is None" if which == "None" else f"assert same({call}, {which})"
                return self._test(head, [*lines, asserted]), at + 1
            if at >= len(calls):
                continue
            if step.entry is not None and given:
                arguments = [*self._arguments(step)[:-1], "given"]
                lines += [f"given = {self._call_of(step.entry)}", f"cache.{step.verb}({', '.join(arguments)})"]
                lines.append("overwrite(given)")
                namespace["overwrite"](entry)
            elif is_get and answers:
                lines.append(f"overwrite({call})")
                namespace["overwrite"](answer)
            else:
                lines.append(call)
        return None

    def _which(self, namespace: dict[str, Any], expected: Any) -> str:
        for body in self._bodies:
            text = self._call_of(body)
            if expected is not None and _same(namespace, eval(text, namespace), expected):
                return text
        return "None"

    # -- the form that needs the harness -------------------------------------------------------------------------------

    def _watched(self) -> tuple[str, int]:
        names = [self._sides.classes[side] for side in ("control", "candidate")]
        made = [self._built(_imported(name)[2]) for name in names]
        imports = "from validator import ValidationConfig\nfrom validator.proof.trial import Trial\n"
        share = self._found.config.audit_share
        lines = [
            f"control = {made[0]}",
            f"candidate = {made[1]}",
            f"settings = ValidationConfig(overhead_budget=0.0, audit_share={share})",
            f'trial = Trial(control, candidate, "{self._sides.primary}", settings)',
        ]
        for step in self.steps:
            holder = "trial.pair" if step.verb in LIFE_CYCLE else "trial.cache"
            lines.append(f"{holder}.{step.verb}({', '.join(self._arguments(step))})")
        lines += ["trial.finish()", "assert [one.explanation for one in trial.divergences] == []"]
        return self._test(self._head(names, "", imports), lines), len(self.steps)

    # -- text ----------------------------------------------------------------------------------------------------------

    def _head(self, classes: Sequence[str], helpers: str, imports: str = "") -> str:
        one = self._divergence
        told = f"{one.cause.value}, {one.fault.value} at fault. {self._found.explanation}".replace("\\", "/")
        where = f"Shrunk by kv-lockstep from operation {one.op_index:,} of run {self._run_id}, divergence {one.id}."
        lines = [*textwrap.wrap(told.replace('"""', "'''"), 110), "", *textwrap.wrap(where, 110)]
        text = "\n".join(lines)
        froms = {"from shadow import KeysValues\n"}
        for name in classes:
            module, _, kind = _imported(name)
            froms.add(f"from {module} import {kind}\n")
        froms |= set(imports.splitlines(keepends=True))
        modules = "".join(sorted(froms))
        return f'"""{text}\n"""\n\nimport torch\n\n{modules}\n{self._make_entry()}{helpers}'

    def _built(self, kind: str) -> str:
        config = ", ".join(f'"{name}": {_text(value)}' for name, value in self.setting.config.items())
        return f"{kind}(config={{{config}}}, env_num={self.setting.env_num})"

    def _make_entry(self) -> str:
        """Return what makes an entry of a number; where there are several layouts, of these too."""
        known = [_described(body.layout) for body in self._bodies] or [_USUAL]
        usual = known[0]
        more = [name for name in usual if any(one[name] != usual[name] for one in known)]
        values = {name: name if name in more else str(value) for name, value in usual.items()}
        signature = ", ".join(["number", *(f"{name}={usual[name]}" for name in more)])
        fixed = not {"heads", "head_dim"} & set(more)
        values["width"] = (
            str(usual["heads"] * usual["head_dim"]) if fixed else "{heads} * {head_dim}".format_map(values)
        )
        shape = "{batch}, {heads}, {tokens}, {width}, {layers}".format_map(values)
        drawn = "torch.randn({batch}, {heads}, size, {head_dim}, generator=generator)".format_map(values)
        return _ENTRY.format(signature=signature, shape=shape, drawn=drawn, **values)

    def _call_of(self, body: Any) -> str:
        """Return how the entry of a body is made; what is as in the first one is left to the defaults."""
        own, usual = _described(body.layout), _described(next(iter(self._bodies)).layout)
        more = [f"{name}={value}" for name, value in own.items() if value != usual[name]]
        return f"entry({', '.join([str(self._bodies[body]), *more])})"

    def _arguments(self, step: Step) -> list[str]:
        given = [repr(value) for value in (step.env_id, step.key) if value is not None]
        return [*given, self._call_of(step.entry)] if step.entry is not None else given

    def _made(self, namespace: dict[str, Any], step: Step) -> Any:
        return eval(self._call_of(step.entry), namespace) if step.entry is not None else None

    def _test(self, head: str, lines: Sequence[str]) -> str:
        body = "\n".join(f"    {line}" for line in lines)
        return f"{head}\ndef test_divergence_{self._number:03d}():\n{body}\n"


def _described(layout: Any) -> dict[str, Any]:
    shape, dtype, _, size = layout[0]
    sizes = {"layers": len(layout) // 2, "sizes": (size, layout[1][3]), "dtype": f"torch.{dtype}"}
    return dict(zip(("batch", "heads", "tokens", "head_dim"), shape, strict=True)) | sizes


def _same(namespace: dict[str, Any], answer: Any, expected: Any) -> bool:
    """Compare as the test does; what can't be compared, an odd answer, is another one."""
    try:
        return bool(namespace["same"](answer, expected))
    except Exception:
        return False


def _text(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _probes(calls: Sequence[Step]) -> list[Step]:
    """Return a lookup of each place that was written to, to be asked for at the end."""
    sets = [step for step in calls if step.entry is not None]
    return list(dict.fromkeys(step._replace(verb=step.verb.replace("set", "get"), entry=None) for step in sets))


def _played(cache: Any, step: Step, entry: Any) -> tuple[Any, Exception | None]:
    given = [value for value in (step.env_id, step.key) if value is not None]
    try:
        return getattr(cache, step.verb)(*given, *([entry] if step.entry is not None else [])), None
    except Exception as error:
        return None, error


def _imported(name: str) -> tuple[str, str, str]:
    """Split what ``implementation`` takes into module, a colon and class."""
    named = {"legacy": "shadow.legacy:LegacyKVCache", "new": "shadow.manager:KVCacheManager"}.get(name, name)
    return named.partition(":")


def _with_manager(source: str) -> str:
    needed = "from shadow.manager import KVCacheManager\n"
    return source if needed in source else source.replace("import torch\n", f"import torch\n\n{needed}", 1)


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
