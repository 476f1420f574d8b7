"""One run for machines: JSON, JUnit XML and annotations of GitHub Actions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any
from xml.etree import ElementTree

from reports.content import facts
from reports.content.facts import SIDES, Judgement
from reports.content.groups import grouped
from reports.content.repros import again
from reports.content.text import clean, line
from reports.disk.layout import described, encoded
from reports.record.codec import to_json
from reports.record.redaction import redacted
from reports.record.run import Run
from reports.record.totals import summarise
from reports.record.words import SCHEMA, Verdict

_MAX_ANNOTATIONS = 10  # GitHub shows this many of a step


def as_json(run: Run, judgement: Judgement) -> str:
    """Return verdict, reasons, demands, totals as in ``summary.json``, and one divergence of each group.

    Args:
        run: What was recorded.
        judgement: What follows from it.
    """
    told: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": judgement.verdict.value,
        "meaning": facts.meaning(run, judgement),
        "reasons": list(judgement.reasons),
        "run_id": str(run.manifest.get("run_id", run.path.name)),
        "path": str(run.path),
        "state": run.state,
        "ended": run.ended,
        "lost": run.lost,
        "classes": {side: facts.classes(run, side) for side in SIDES},
        "demands": [
            {name: getattr(demand, name) for name in ("demanded", "found", "verdict", "where", "remedy")}
            for demand in judgement.demands
        ],
        "causes": [
            {"fault": g.fault, "cause": g.cause, "dimension": g.dimension, "count": g.count, "n_written": g.n_written}
            | {"first": None if g.first is None else to_json(g.first)}
            | {"repro": None if (kept := again(run, g).kept) is None else to_json(kept)}
            for g in grouped(run)
        ],
        "events": run.n_events,
        "problems": run.problems,
        "totals": summarise(run.totals),
        "manifest": run.manifest,
    }
    # The runner of GitHub Actions would look for a command in what is printed; JSON has another way to write it.
    return encoded(redacted(described(told)), indent=1).decode().replace("##[", "\\u0023#[") + "\n"


def as_junit(run: Run, judgement: Judgement) -> str:
    """Return JUnit XML: each demand and each cause of divergences is a test case.

    What failed is a failure; what is not shown is an error, which no CI takes for a pass.

    Args:
        run: What was recorded.
        judgement: What follows from it.
    """
    name = f"kv-lockstep {facts.ran(run)[0]}"
    suite = ElementTree.Element(
        "testsuite", name=_xml(name), timestamp=_xml(facts.created(run.manifest).replace(" UTC", "Z").replace(" ", "T"))
    )
    verdict = f"{judgement.verdict.value}: {facts.meaning(run, judgement)}"
    about = {"verdict": verdict, **{side: facts.classes(run, side) for side in SIDES}}
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in about.items():
        ElementTree.SubElement(properties, "property", name=key, value=_xml(value))

    def case(group: str, title: str, found: str, kind: str, detail: str) -> None:
        one = ElementTree.SubElement(suite, "testcase", classname=f"kv-lockstep.{group}", name=_xml(title))
        if kind:
            ElementTree.SubElement(one, kind, message=_xml(found)).text = _xml(detail, 4000)

    kinds = {Verdict.PASS: "", Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "error"}
    for demand in judgement.demands:
        detail = f"{demand.found}\n{demand.where}\n{demand.remedy}"
        case("demand", demand.demanded, demand.found, kinds[demand.verdict], detail)
    for group in grouped(run):
        detail = "" if group.first is None else "\n".join((group.first.explanation, *group.first.history))
        title = f"{group.cause} ({group.dimension}, {group.fault} at fault)"
        # As the gate sees it: a divergence that the policy allows does not fail.
        case("cause", title, f"{group.count:,} times", kinds[judgement.verdict], detail)
    for name, path in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        suite.set(name, str(len(suite.findall(path))))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def workflow_commands(run: Run, judgement: Judgement) -> Iterator[str]:
    """Yield workflow commands of GitHub Actions: what failed as errors, what is missing as warnings, nothing for PASS.

    Args:
        run: What was recorded.
        judgement: What follows from it.
    """
    kinds = {Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning"}
    yield from (
        # Escaped is what the runner would take for the end of the command.
        f"::{kinds[verdict]} title=kv-lockstep::{line(said, 1000).replace('%', '%25')}"
        for verdict, said in islice((one for one in _annotations(run, judgement) if one[0] in kinds), _MAX_ANNOTATIONS)
    )


def _annotations(run: Run, judgement: Judgement) -> Iterator[tuple[Verdict, str]]:
    yield judgement.verdict, f"{judgement.verdict.value}: {facts.meaning(run, judgement)}"
    for group in grouped(run) if judgement.verdict is Verdict.FAIL else ():
        said = "" if group.first is None else group.first.explanation
        yield judgement.verdict, f"{group.cause}, {group.fault} at fault, {group.count:,} times: {said}"
    for demand in facts.by_gravity(judgement.demands):
        yield demand.verdict, f"{demand.demanded}, found {demand.found}. {demand.remedy}"


def _xml(value: object, limit: int = 400) -> str:
    """Return text without what XML 1.0 can't hold; ``clean`` shows control characters by their escapes."""
    return clean(value, limit).replace("\ufffe", "").replace("\uffff", "")
