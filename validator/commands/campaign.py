"""``kv-lockstep campaign``: run many jobs, here or on a cluster, and judge them as one."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from reports.content.text import line, plural
from reports.disk.run_id import run_id
from reports.errors import RunDirectoryError, RunUnreadable
from reports.read.campaign import read_campaign, write_campaign
from reports.record.campaign import Campaign, Job
from reports.record.words import EXIT_CODE, Verdict
from validator.campaign.drive import Backend, drive, settle_what_was_left, signals_kept
from validator.campaign.local import Local
from validator.campaign.matrix import MOST_JOBS, Matrix, Plan, configurations, filled, jobs_of, parsed
from validator.commands.arguments import installed_version, parser
from validator.commands.campaign_shown import campaign_display, ended_line
from validator.commands.gate import read_waivers
from validator.commands.gate_evidence import find_sources, read_sources
from validator.commands.report import write_output
from validator.commands.show import console, show_judgement
from validator.errors import ConfigError
from validator.gate.judgement import judge
from validator.gate.policy import GatePolicy
from validator.gate.shipped import find_file
from validator.toml import read_toml


def main(arguments: Namespace) -> int:
    """Run a campaign, or what is missing of one, and judge it.

    Args:
        arguments: ``seeds, primary, policy, waivers, timeout, on, jobs, at, cpus, gpus, out, resume, only, yes, quiet,
            job``; see ``arguments.py``.

    Returns:
        The verdict's exit code; with ``--only`` the job's own.

    Raises:
        ConfigError: If something that was asked for can't be; nothing was run then.
    """
    if arguments.only is not None and arguments.resume is None:
        raise ConfigError("--only N is for one job of a campaign that is there: add --resume CAMPAIGN")
    out, err = console(), console(stderr=True)
    if arguments.resume:
        campaign = _resumed(arguments)
        todo = _todo(campaign, arguments)
        backend = _backend(arguments, campaign.manifest.get("timeout_s"), len(todo)) if todo else None
    else:
        plan = plan_of(arguments)
        jobs = _jobs(plan, arguments)
        backend = _backend(arguments, plan.timeout_s, len(jobs))  # what it refuses leaves no directory behind
        campaign = _made(plan, jobs, Path(arguments.out or "campaigns"))
        todo = campaign.jobs
    if arguments.on == "print":
        return _print(campaign, out)
    if backend is not None:
        _drive(campaign, todo, backend, arguments.quiet, err)
    if arguments.only is not None:
        last = [one for one in campaign.attempts if one.job == arguments.only][-1]
        err.print(ended_line(campaign.jobs[last.job], last), soft_wrap=True)
        return EXIT_CODE[Verdict.INCONCLUSIVE] if last.code is None or last.code < 0 else last.code
    return fold(campaign, out)


def _drive(campaign: Campaign, todo: Sequence[Job], backend: Backend, quiet: bool, err: Console) -> None:
    if not quiet:
        err.print(line(f"{campaign.path}: {plural(len(todo), 'job')}, {backend}", 4000), soft_wrap=True)
    try:
        with signals_kept(), campaign_display(err, campaign, quiet) as shown:
            drive(campaign, todo, backend, shown)
    except KeyboardInterrupt:
        err.print(f"stopped; what is missing: kv-lockstep campaign --resume {campaign.path}", soft_wrap=True)
    except OSError as problem:
        raise RunDirectoryError(f"{campaign.path}: {problem}; what ran until then is kept") from problem
    finally:
        backend.close()


def fold(campaign: Campaign, out: Console) -> int:
    """Judge what a campaign recorded, as ``kv-lockstep gate`` would, and say where everything is.

    Returns:
        The verdict's exit code.
    """
    policy, waivers = campaign.manifest.get("policy"), campaign.manifest.get("waivers")
    gate = GatePolicy.load(find_file("gate", str(policy), "gate policy")) if policy else GatePolicy()
    files = [find_file("waivers", str(name), "file of waivers") for name in waivers or ()]
    evidence = read_sources(find_sources([campaign.path]), read_waivers(files))
    judgement = judge(evidence, gate)
    show_judgement(judgement, out)
    from reports.formats.html.campaign import PAGE_FILE, render  # here, for the processes that read have none of it

    page = campaign.path / PAGE_FILE
    write_output(page, render(evidence.campaigns[0], evidence.runs, judgement))
    out.print(line(f"report: {page}", 4000), soft_wrap=True)
    out.print(line(f"campaign: {campaign.path}", 4000), soft_wrap=True)
    return judgement.exit_code


def plan_of(arguments: Namespace) -> Plan:
    """Read what is asked for from a file or from the command line.

    Raises:
        ConfigError: If neither says anything, or nothing that can be.
    """
    words = arguments.job
    if not words:
        raise ConfigError("name a file, or a job after --: kv-lockstep campaign --seeds 1..4 -- train --config smoke")
    flags: dict[str, Any] = {"policy": arguments.policy, "waivers": tuple(arguments.waivers)}
    flags = {name: value for name, value in {**flags, "timeout_s": arguments.timeout}.items() if value}
    if len(words) > 1 or not words[0].endswith(".toml"):
        try:
            made = Matrix(tuple(words), arguments.seeds, arguments.primary, ranks=arguments.ranks)
            return Plan((made,), **flags)
        except ValueError as problem:
            raise ConfigError(f"campaign: {problem}") from None
    if arguments.seeds or arguments.primary or arguments.ranks != 1:
        raise ConfigError(f"{words[0]} says seeds, primaries and ranks; leave --seeds, --primary and --ranks away")
    from shadow.settings import SettingsError, from_mapping  # here because it imports torch

    path = Path(words[0])
    try:
        return from_mapping(Plan, {**read_toml(path, "a campaign"), **flags}, str(path))
    except SettingsError as problem:
        raise ConfigError(str(problem)) from None


def _made(plan: Plan, jobs: Sequence[Job], out: Path) -> Campaign:
    path = out / f"campaign-{run_id()}"
    about = {
        "campaign_id": path.name,
        "created": time.time(),
        "policy": plan.policy,
        "waivers": list(plan.waivers),
        "timeout_s": plan.timeout_s,
        "versions": {"kv-lockstep": installed_version()},
        "argv": sys.argv,
        "cwd": str(Path.cwd()),
    }
    try:
        path.mkdir(parents=True)
        write_campaign(path, about, jobs)
    except OSError as problem:
        raise RunDirectoryError(f"{path}: can't be made ({problem.strerror}); choose another --out") from None
    return read_campaign(path)


def _jobs(plan: Plan, arguments: Namespace) -> list[Job]:
    """Multiply out, and try out whatever could be wrong with a job before any runs."""
    commands = parser()
    jobs = jobs_of(plan, commands)
    if len(jobs) > MOST_JOBS and not arguments.yes:
        raise ConfigError(f"that makes {len(jobs):,} jobs, more than {MOST_JOBS:,}; add --yes if it is meant")
    if plan.policy:
        GatePolicy.load(find_file("gate", plan.policy, "gate policy"))
    read_waivers([find_file("waivers", name, "file of waivers") for name in plan.waivers])
    for job in configurations(jobs):
        given = parsed(filled(job, "0000-1", "campaigns"), commands)
        script = getattr(given, "script", None)
        if isinstance(script, Path) and not script.is_file():
            raise ConfigError(f"{script}: expected a Python script; paths are relative to {Path.cwd()}")
        if given.command == "train":
            from validator.commands.train_config import read_config  # here because it imports torch

            read_config(given)
    return jobs


def _resumed(arguments: Namespace) -> Campaign:
    campaign = read_campaign(arguments.resume)
    if campaign.problems:
        raise RunUnreadable(f"{campaign.path}: {campaign.problems[0]}; a damaged campaign can't be resumed")
    if arguments.job:
        asked = _jobs(plan_of(arguments), arguments)
        both = zip(asked, campaign.jobs, strict=False)
        apart = next((f"{one} against {other}" for one, other in both if one != other), "")
        if asked != campaign.jobs:
            found = apart or f"{len(asked)} jobs against {len(campaign.jobs)}"
            raise ConfigError(
                f"{campaign.path} is of another matrix ({found}); leave the job away to resume it as it is"
            )
    elif arguments.seeds or arguments.primary or arguments.ranks != 1 or arguments.policy or arguments.waivers:
        raise ConfigError(
            "--resume takes seeds, primaries, ranks, policy and waivers from the campaign; leave them away"
        )
    return campaign


def _todo(campaign: Campaign, arguments: Namespace) -> list[Job]:
    """Say which jobs are to be run now."""
    if arguments.only is None:
        settle_what_was_left(campaign, arguments.yes)
        return campaign.missing()
    if not 0 <= arguments.only < len(campaign.jobs):
        raise ConfigError(f"--only {arguments.only}: {campaign.path} has jobs 0 to {len(campaign.jobs) - 1}")
    job = campaign.jobs[arguments.only]
    settle_what_was_left(campaign, give_up=True, only=job)
    return [job] if job in campaign.missing() else []


def _backend(arguments: Namespace, said_s: Any, n_jobs: int) -> Backend | None:
    timeout_s = float(arguments.timeout or said_s or 0.0)
    if arguments.jobs < 0 or timeout_s < 0:
        raise ConfigError(f"--jobs {arguments.jobs}, --timeout {timeout_s:g}: expected no negative number")
    if arguments.on == "print":
        return None
    if arguments.on == "ray":
        from validator.campaign.onray import OnRay  # here because Ray is optional

        return OnRay(arguments.at, arguments.cpus, arguments.gpus, timeout_s)
    return Local(arguments.jobs or (1 if arguments.only is not None else 0), n_jobs, timeout_s)


def _print(campaign: Campaign, out: Console) -> int:
    path = shlex.quote(str(campaign.path.resolve()))
    for job in campaign.missing():
        out.print(f"kv-lockstep campaign --resume {path} --only {job.number}  # {job}", soft_wrap=True)
    out.print(
        f"kv-lockstep campaign --resume {path}  # when all have ended: the rest, if any, and the verdict",
        soft_wrap=True,
    )
    return 0
