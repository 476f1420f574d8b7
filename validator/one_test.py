"""The session of one test: what is wanted of it, when it opens, what it comes to, and how that is said."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.content.facts import meaning
from reports.content.groups import grouped
from reports.content.text import line, plural
from reports.record.drills import WRONG
from reports.record.run import Run
from reports.record.words import Verdict
from validator.config import ValidationConfig
from validator.gate.judgement import Evidence, Judgement, judge
from validator.gate.policy import GatePolicy
from validator.gate.rules.divergence import n_divergences
from validator.gate.shipped import find_file
from validator.gate.waivers import Waiver, load_waivers

if TYPE_CHECKING:
    from validator.proof.drill.planting import Drill
    from validator.session import Lockstep

OF_A_MARK = ("require", "rtol", "atol", "primary")
# A test is short: all of it is looked at, whatever that takes.
_THOROUGH = {"audit_share": 1.0, "overhead_budget": 0.0}
_WIDTH = 100
_MAX_CAUSES = 3
_MAX_SLUG = 100  # characters, the last of them


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of one test.

    Attributes:
        policy: What is demanded.
        waivers: Permissions that hold in it.
        primary: Whose answers the test receives, unless it says.
        config: Settings of the session.
    """

    policy: GatePolicy
    waivers: tuple[Waiver, ...] = ()
    primary: str = "control"
    config: ValidationConfig = field(default_factory=ValidationConfig)

    @classmethod
    def of(cls, marked: Mapping[str, Any], primary: str = "", policy: str = "", waivers: str = "") -> Wanted:
        """Put together what a project, a command line and a mark say.

        Args:
            marked: What ``@pytest.mark.kv_lockstep`` was given.
            primary: ``control`` or ``candidate``, where the mark says nothing.
            policy: A gate policy that ships, or a file of one's own; empty for ``test``.
            waivers: Waivers that ship, or a file of one's own; empty for none.

        Raises:
            ValueError: If the mark has an unknown keyword or an impossible value, or requires what nothing counts.
            ConfigError: If a file can't be read or doesn't hold what it should.
        """
        if unknown := sorted(set(marked) - set(OF_A_MARK)):
            raise ValueError(f"the mark takes {', '.join(OF_A_MARK)}, not {', '.join(unknown)}")
        primary = marked.get("primary", primary or "control")
        if primary not in ("control", "candidate"):
            raise ValueError(f"primary must be 'control' or 'candidate', got {primary!r}")
        demanded = GatePolicy.load(find_file("gate", policy or "test", "gate policy"))
        required = marked.get("require", ())
        names = {required} if isinstance(required, str) else required
        if not (isinstance(names, (set, frozenset, list, tuple)) and all(isinstance(each, str) for each in names)):
            raise ValueError(f"require takes names, as in require={{'evictions'}}, got {required!r}")
        coverage = demanded.coverage.requiring(names)
        settings = {name: marked[name] for name in ("rtol", "atol") if name in marked}
        config = ValidationConfig.from_mapping({**_THOROUGH, "selftest": demanded.selftest, **settings}, "the mark")
        held = load_waivers(find_file("waivers", waivers, "file of waivers")) if waivers else ()
        return cls(replace(demanded, coverage=coverage), held, primary, config)


class Watch:
    """What the fixture ``kv_lockstep`` answers: shadows caches in a session of this test's own, opened by the first.

    Args:
        wanted: What is wanted of the test.
        name: The test, as pytest names it.
        place: Returns the directory of its runs, and the name of this run's own in it, empty for one of its own
            making; asked when the session opens.

    Attributes:
        is_asked_for: Whether the test asked for it, and so has to use it.
    """

    def __init__(self, wanted: Wanted, name: str, place: Callable[[], tuple[Path, str]]) -> None:
        self._wanted = wanted
        self._name = name
        self._place = place
        self._session: Lockstep | None = None
        self._ended = False
        self._until_the_end = ExitStack()
        self.is_asked_for = False

    def __call__(self, *, control: Any, candidate: Any, primary: str = "", **more: Any) -> Any:
        """Put both caches behind one; the test is judged by what they do when it ends.

        Args:
            control: Trusted cache.
            candidate: New cache.
            primary: ``control`` or ``candidate``: whose answers the test receives. The mark, the command line or the
                project says, where it is left out.
            more: What else ``Lockstep.shadow`` takes.

        Returns:
            The cache to use in their place.

        Raises:
            ValueError: If they can't be shadowed; the text says why.
            RuntimeError: If the test has been judged already.
        """
        self._refuse_if_ended()
        return self.lockstep.shadow(control=control, candidate=candidate, primary=primary or self.primary, **more)

    @property
    def primary(self) -> str:
        """Whose answers the test receives, unless it says."""
        return self._wanted.primary

    @property
    def lockstep(self) -> Lockstep:
        """The session, to tell it of weight updates, episodes, searches; it opens here.

        Raises:
            RuntimeError: If the test has been judged already.
        """
        if self._session is None:
            self._refuse_if_ended()
            from validator.session import Lockstep  # imports torch

            about = {"host": "pytest", "test": self._name}
            out, run_id = self._place()
            self._session = Lockstep(out, replace(self._wanted.config, run_id=run_id), manifest_extra=about)
        return self._session

    @property
    def has_begun(self) -> bool:
        """Whether the session is open, or was."""
        return self._session is not None

    def enter(self, shadowing: AbstractContextManager[Any]) -> None:
        """Let something else shadow caches by this watch, until the test ends."""
        self._until_the_end.enter_context(shadowing)

    def close(self, error: BaseException | None = None) -> None:
        """End the watch without a judgement; one that ended already stays as it is.

        Args:
            error: What the test itself raised: then the run is not complete.
        """
        self._ended = True
        self._until_the_end.close()
        if self._session is not None:
            if error is not None:
                self._session.host_failed(error)
            self._session.close()

    def _refuse_if_ended(self) -> None:
        if self._ended:
            raise RuntimeError("this test has ended and was judged; shadow caches before its end")

    def judged(self, error: BaseException | None = None) -> Judged | None:
        """Close the session and judge what is on disk of it; where it never opened, that is nothing.

        Args:
            error: What the test itself raised: then the run is not complete.

        Returns:
            What the test came to; None on a rank that leaves judging to the first.
        """
        from validator.commands.at_close import closed_run
        from validator.commands.show import console

        lockstep = self.lockstep
        self.close(error)
        run = closed_run(lockstep, console(stderr=True))
        if run is None:
            return None
        if lockstep.drill is not None and lockstep.drill.fault is not None:
            return Judged.of_a_drill(run, lockstep.drill)
        return Judged.of(run, judge(Evidence([run], self._wanted.waivers), self._wanted.policy))


class Judged(NamedTuple):
    """What a test came to.

    Attributes:
        holds: Whether the test may pass: a PASS of the gate, or in a drill the fault was found, or could not show.
        said: The verdict with its reasons and first causes, a line each.
        shown: What was compared, what differed, and the first divergences in full, as the report has it; of a PASS
            nothing.
        figures: Verdict, lookups, divergences and run directory by name, as JUnit and a summary want them.
    """

    holds: bool
    said: str
    shown: str
    figures: dict[str, str | int]

    @classmethod
    def of(cls, run: Run, judgement: Judgement) -> Judged:
        """Put a judged run into words."""
        verdict = judgement.verdict
        causes = [
            f"{group.fault} at fault, {group.cause}, {plural(group.count, 'time')}: {group.best.explanation}"
            for group in grouped(run)[:_MAX_CAUSES]
            if group.best is not None
        ]
        said = [f"kv-lockstep: {verdict.value}: {meaning(run, judgement)}", *judgement.reasons, *causes]
        figures: dict[str, str | int] = {
            "verdict": verdict.value,
            "lookups": run.totals.n_lookups,
            "divergences": n_divergences(run),
            "run": str(run.path),
        }
        shown = "" if verdict is Verdict.PASS else _shown(run)
        return cls(verdict is Verdict.PASS, "\n  ".join(line(each, 2000) for each in said), shown, figures)

    @classmethod
    def of_a_drill(cls, run: Run, drill: Drill) -> Judged:
        """Put into words what came of a planted fault."""
        from validator.proof.drill.exercised import exercised
        from validator.proof.drill.judged import charges, drilled  # they import torch

        assert drill.fault is not None
        found = drilled(drill.fault, [run], charges([]), exercised([run]), "", 0.0, "")
        named = f", named {', '.join(found.named)}" if found.named else ""
        said = f"kv-lockstep: drill: fault {drill.name!r} {found.outcome.value}{named}{found.why and f': {found.why}'}"
        figures: dict[str, str | int] = {
            "verdict": found.outcome.value,
            "lookups": run.totals.n_lookups,
            "divergences": n_divergences(run),
            "run": str(run.path),
        }
        return cls(found.outcome not in WRONG, line(said, 2000), "", figures)


def _shown(run: Run) -> str:
    from rich.console import Console

    from reports.formats.terminal.run import differences

    page = io.StringIO()
    differences(run, Console(file=page, width=_WIDTH, highlight=False))
    return page.getvalue()


def slug(test: str) -> str:
    """Return a name for the directory of a test's runs."""
    return re.sub(r"[^\w.-]+", "-", test).strip("-.")[-_MAX_SLUG:] or "test"
