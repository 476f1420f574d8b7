"""``kv-lockstep gate``: judge runs by a policy; the exit code is the verdict's."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from reports.content.text import line
from validator.commands.gate_evidence import find_sources, read_sources
from validator.commands.gate_record import Draft, read_key, verify
from validator.commands.show import console, show_judgement
from validator.errors import ConfigError
from validator.gate.judgement import judge
from validator.gate.policy import GatePolicy
from validator.gate.shipped import find_file
from validator.gate.waivers import Waiver, load_waivers


def main(arguments: Namespace) -> int:
    """Judge, or look again at what was judged.

    Args:
        arguments: ``runs, policy, waivers, record, by, verify`` and ``key_file``; see ``arguments.py``.

    Returns:
        The verdict's exit code.
    """
    out = console()
    if arguments.key_file and not (arguments.record or arguments.verify):
        raise ConfigError("--key-file signs a record, or checks one: add --record FILE, or --verify FILE")
    key = read_key(arguments.key_file) if arguments.key_file else b""
    if arguments.verify is not None:
        if arguments.runs or arguments.policy or arguments.waivers or arguments.record:
            raise ConfigError("--verify FILE names its own runs, policy and waivers; leave all else away")
        return verify(arguments.verify, out, key)
    if not arguments.runs:
        raise ConfigError("name at least one run, or a directory of runs: kv-lockstep gate runs")
    policy_file = find_file("gate", arguments.policy, "gate policy") if arguments.policy else None
    policy = GatePolicy.load(policy_file) if policy_file else GatePolicy()
    waiver_files = [find_file("waivers", name, "file of waivers") for name in arguments.waivers]
    waivers = read_waivers(waiver_files)
    sources = find_sources(arguments.runs)
    # Digests are taken before anything is read: what changes in between then shows as changed.
    draft = Draft.of(arguments.record, sources, policy_file, waiver_files) if arguments.record else None
    evidence = read_sources(sources, waivers)
    judgement = judge(evidence, policy)
    show_judgement(judgement, out)
    if evidence.trainings and policy.training is None:
        found = ", ".join(str(trainings.path) for trainings in evidence.trainings)
        text = f"not judged, because policy {policy.name!r} has no table [training]: {found}"
        out.print(line(text, 4000), soft_wrap=True)
    if draft is not None:
        draft.write(judgement, evidence.now, arguments.by, key)
        out.print(line(f"record: {arguments.record}", 4000), soft_wrap=True)
    return judgement.exit_code


def read_waivers(files: Sequence[Path]) -> list[Waiver]:
    """Read files of waivers, refusing an id that two of them hold."""
    found: dict[str, Waiver] = {}
    for path in files:
        for waiver in load_waivers(path):
            if waiver.id in found:
                raise ConfigError(f"{path}: waiver {waiver.id!r} is in another of the files as well; name one of them")
            found[waiver.id] = waiver
    return list(found.values())
