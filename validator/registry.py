"""Which pairs does a session watch? Each under a name of its own, on record, and in a trace where its shape has one."""

from __future__ import annotations

from typing import Any

from validator.config import ValidationConfig
from validator.judge.case import Pairing
from validator.observe.pair import Pair
from validator.proof.selftest import quick_selftest
from validator.provenance import source_of
from validator.recorder import Recorder
from validator.replay.recording import about
from validator.shapes.shape import Shape


class Registry:
    """The pairs of one session; whoever calls it holds the session's lock.

    Args:
        recorder: Where they go on record.
        config: Settings of the session.
        run_id: Of the run.
        rank: Of this process.

    Attributes:
        pairs: Those that are watched; the same list for good.
    """

    def __init__(self, recorder: Recorder, config: ValidationConfig, run_id: str, rank: int) -> None:
        self.pairs: list[Pair] = []
        self._recorder = recorder
        self._config = config
        self._run_id = run_id
        self._rank = rank
        self._of: dict[Pair, tuple[Pairing, Shape, str]] = {}  # with the name of its copies
        self._names: set[str] = set()

    def of(self, cache: Any | None) -> list[Pair]:
        """List the pairs of what a host holds, or all of them for None."""
        return [pair for pair in self.pairs if cache is None or pair.watches(cache)]

    def copied(self, pair: Pair, control: Any, candidate: Any) -> Pair:
        """Register a deep copy of a pair under a name of its own."""
        pairing, shape, name = self._of[pair]
        pair.lived("copied")
        copy = pairing._replace(name=name, control=control, candidate=candidate)
        return self.register(copy, shape, copies=name, copy_of=pair.name)

    def register(self, pairing: Pairing, shape: Shape, copies: str = "", copy_of: str = "") -> Pair:
        """Make the observer of a pair, and put it on record.

        Args:
            pairing: The two caches; where the name is taken, the pair gets a number behind it.
            shape: Their shape.
            copies: Name of deep copies of it; ``<name>-copy`` where empty.
            copy_of: Name of the pair that this one is a deep copy of.
        """
        for gone in [pair for pair in self.pairs if pair.ended]:
            self.pairs.remove(gone)
            del self._of[gone]
            self._recorder.end_trace(gone.name)
        name, taken = pairing.name, self._names
        unique = next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)
        pair = shape.pair(pairing._replace(name=unique), self._recorder)
        if not copy_of:
            pair.look_before()
        taken.add(unique)
        self.pairs.append(pair)
        caches_let_go = pairing._replace(control=None, candidate=None)  # their host alone keeps them alive
        self._of[pair] = caches_let_go, shape, copies or f"{unique}-copy"
        sides = {"control": pairing.control, "candidate": pairing.candidate}
        classes = {side: _class_name(cache) for side, cache in sides.items()}
        said = {"primary": pairing.primary, "copy_of": copy_of, **pair.about()}
        sources = {side: source_of(type(cache)) for side, cache in sides.items()}
        within = {name: getattr(pairing.config, name) for name in ("rtol", "atol")}
        own = within if pairing.config is not self._config else {}
        self._recorder.cache(unique, **classes, sources=sources, **said, **own)
        self._prove(pair, shape)
        where = {"run_id": self._run_id, "rank": self._rank, "cache": unique, "shape": shape.name}
        described = about(pair.case, sides, pair.built_of(), classes=classes, **{**said, **where})
        trace = self._recorder.trace(unique, described)
        if trace is not None:
            pair.note, pair.keep = trace.note, trace.keep
        if not copy_of:
            pair.take_over()
        return pair

    def _prove(self, pair: Pair, shape: Shape) -> None:
        """Prove once a process that faults of a shape would be noticed; those of pools were tried at the beginning."""
        if self._config.selftest and shape.name != "pools":
            found = quick_selftest(shape.name)
            if not found.passed:
                pair.harness_failed("self-test", RuntimeError(f"planted faults in {shape.name}: {found.summary()}"))


def _class_name(cache: Any) -> str:
    kind = type(cache)
    return f"{kind.__module__}.{kind.__qualname__}"
