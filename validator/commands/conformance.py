"""``kv-lockstep conformance``: hold two caches against their models on adversarial streams, without training."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reports.formats.terminal.layout import Page
from reports.read.conformance import write_conformance
from reports.record.words import EXIT_CODE, EXIT_HARNESS, Verdict
from shadow.switch import implementation
from validator.commands.show import console, counting
from validator.errors import ConfigError
from validator.proof.appends.conformance import append_conformance
from validator.proof.conformance import GROUNDS, Conformance, conformance
from validator.provenance import provenance, source_of
from validator.shapes import find

_SMALL = {"num_simulations": 1, "max_cache_size": 1, "capacity": 1}
_CALLED = {"pools": "MAKE(config=..., env_num=...)", "mapping": "MAKE(capacity), else MAKE()", "append": "MAKE()"}


def main(arguments: Namespace) -> int:
    """Play the streams.

    Args:
        arguments: ``shape, control, candidate, ops, seed, out``; see ``arguments.py``.

    Returns:
        0 if both caches do what they declare, 1 if one does not, 3 if the harness itself failed.

    Raises:
        ConfigError: If a cache can't be found.
    """
    if arguments.ops < 1:
        raise ConfigError(f"--ops must be at least 1, got {arguments.ops}: without operations nothing is shown")
    (first, control), (second, candidate) = (_tried(arguments, side) for side in ("control", "candidate"))
    with counting(console(stderr=True), "operations", arguments.ops) as shown:
        played = arguments.ops, arguments.seed, lambda done: shown(done, arguments.ops)
        if arguments.shape == "append":
            result = append_conformance(partial(first, _SMALL, 1), partial(second, _SMALL, 1), *played)
        else:
            result = conformance(first, second, *played, GROUNDS[arguments.shape])
    _show(result, arguments)
    if arguments.out is not None:
        _keep(result, arguments, control, candidate)
    if result.harness_faults:
        return EXIT_HARNESS
    verdict = Verdict.PASS if result.conforms else Verdict.FAIL if result.unexpected else Verdict.INCONCLUSIVE
    return EXIT_CODE[verdict]


def _tried(arguments: Namespace, side: str) -> tuple[Callable[[dict[str, int], int], Any], type]:
    """Find what makes the cache of a side, and of which class that is; refuse what makes none."""
    name, shape = getattr(arguments, side), arguments.shape
    try:
        make = partial(_make, shape, implementation(name))
    except ValueError as problem:
        raise ConfigError(str(problem)) from None
    try:
        kind = type(cache := make(_SMALL, 1))
    except Exception as problem:  # of somebody else's
        what = f"it raised {type(problem).__name__}: {problem}"
    else:
        if find(cache, shape).takes(cache):
            return make, kind
        what = f"it returned an object of type {kind.__name__}"
    raise ConfigError(f"--{side} {name}: expected what makes a cache, called as {_CALLED[shape]}; {what}")


def _make(shape: str, make: Callable[..., Any], config: dict[str, int], env_num: int) -> Any:
    """Make a cache of a config; a mapping of its capacity, or of nothing if it takes none."""
    if shape == "append":
        return make()
    if shape == "pools":
        return make(config=config, env_num=env_num)
    try:
        return make(config["capacity"])
    except TypeError:
        return make()


def _keep(result: Conformance, arguments: Namespace, control: type, candidate: type) -> None:
    charged: dict[str, list[str]] = {}
    for cause, fault in result.unexpected:
        charged.setdefault(fault.value, []).append(cause.value)
    about: dict[str, Any] = {
        "control": f"{control.__module__}.{control.__qualname__}",
        "candidate": f"{candidate.__module__}.{candidate.__qualname__}",
        "source": source_of(candidate),
        "seed": arguments.seed,
        "operations": result.operations,
        "conforms": result.conforms,
        "charged": charged,
        "harness_faults": result.harness_faults[:10],
        **provenance(),
    }
    path = write_conformance(Path(arguments.out), about)
    console().print(f"result: {path}", soft_wrap=True)


def _show(result: Conformance, arguments: Namespace) -> None:
    page = Page(console())
    said = ("conform", "green") if result.conforms else ("DO NOT CONFORM", "red")
    if not (result.conforms or result.unexpected or result.harness_faults):
        said = ("WERE NEVER COMPARED", "yellow")
    verdict = page.text(said[0], f"bold {said[1]}")
    names = f"{arguments.control} (control) and {arguments.candidate} (candidate) "
    page.flush_left(page.text(names) + verdict + page.text(f" in {result.operations:,} operations"))
    page.points(page.text(f"not exercised: {note}") for note in result.not_exercised)
    for side in ("control", "candidate"):
        groups = [group for group in result.charges if group[1].value in (side, "both", "unknown")]
        if not groups:
            page.points([page.text(f"{side}: every answer is what its model says")])
    if result.charges:
        page.heading("What was charged")
        page.table(
            ["at fault", "cause", "declared", "times", "shortest\nprogram"],
            [
                [
                    fault.value,
                    cause.value,
                    "yes, by its policy" if (cause, fault) in result.expected else "no",
                    f"{count:,}",
                    f"{len(result.programs[(cause, fault)][0])} steps",
                ]
                for (cause, fault), count in result.charges.most_common()
            ],
            n_names=3,
        )
    for (cause, fault), (program, text) in result.programs.items():
        page.heading(f"Shortest program: {cause.value}, {fault.value} at fault")
        page.prose(page.text(text))
        page.points((page.text(str(step), limit=400) for step in program), bullet=">")
    if result.harness_faults:
        page.heading("Faults of the harness itself")
        page.points(page.text(fault) for fault in result.harness_faults)
