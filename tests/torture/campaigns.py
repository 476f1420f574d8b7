"""Kills jobs and drivers of campaigns at random moments: no job is lost or counted twice, and nothing passes too early.

    python -m tests.torture.campaigns [COUNT]           prints what came of so many kills
    python -m tests.torture.campaigns [COUNT] --real    jobs are 'conformance --ops 200', seconds each

Without ``--real`` a job takes tenths of a second and leaves a run that the gate counts. A campaign is resumed until
nothing of it is missing; after each driver's end, whoever ended it, the campaign is judged.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from reports.disk.process import started
from reports.read.campaign import read_campaign, write_campaign
from reports.record.campaign import Campaign, Fate, Job
from reports.record.words import Verdict
from validator.commands.gate_evidence import find_sources, read_sources
from validator.gate.judgement import judge

N_JOBS = 5
JOB = """
import random, sys, time
from pathlib import Path
from tests.validator.campaign import write
time.sleep(random.random() * 0.3)
late = lambda writer: time.sleep(random.random() * 0.2)
write(Path(sys.argv[3]), int(sys.argv[5]), now=time.time(), before_close=late)
"""
DRIVER = f"""
import sys
from validator.campaign import process
from validator.cli import main
if {{small}}:
    process.COMMAND = (sys.executable, "-c", {JOB!r})
process._GRACE_S = 0.5
sys.exit(main(["campaign", "--resume", sys.argv[1], "--jobs", "3", "--yes", "--quiet"]))
"""


def kill_some(draw: random.Random, n_kills: int, real: bool = False) -> Counter[str]:
    """Make a campaign, kill some of it, see it through, and say what was wrong.

    Args:
        draw: Decides who is killed, and when.
        n_kills: How often, at most.
        real: Whether jobs are adversarial streams.

    Returns:
        What happened, how often; every name that begins with "wrong" must be 0.
    """
    found: Counter[str] = Counter(campaigns=1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "campaign"
        path.mkdir()
        job = ("conformance", "--seed", "{seed}", "--ops", "200") if real else ("train", "--seed", "{seed}")
        write_campaign(path, {"policy": "", "waivers": []}, [Job(n, job, n) for n in range(N_JOBS)])
        code = -1
        while code < 0 or read_campaign(path).missing():
            driver = _driver(path, real)
            while driver.poll() is None:
                time.sleep(draw.random() * (3.0 if real else 0.4))
                if found["kills"] < n_kills and (victim := _victim(draw, driver)):
                    os.kill(victim, signal.SIGKILL)
                    found["kills"] += 1
                    found["kills of drivers"] += victim == driver.pid
            code = driver.wait()
            found += _judged(path, code)
        found["attempts"] = len(read_campaign(path).attempts)
    return found


def _driver(path: Path, real: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-c", DRIVER.format(small=not real), str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _victim(draw: random.Random, driver: subprocess.Popen[bytes]) -> int:
    try:
        children = [*map(int, Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split())]
    except OSError:
        return 0
    living = [pid for pid in children if started(pid) is not None]
    if not living:
        return 0
    return driver.pid if draw.random() < 0.25 else draw.choice(living)


def _judged(path: Path, code: int) -> Counter[str]:
    """Hold what the gate makes of a campaign against what is there."""
    campaign = read_campaign(path)
    evidence = read_sources(find_sources([path]))
    verdict = judge(evidence).verdict
    missing = campaign.missing()
    counting = [one.path.parent.name for one in (*evidence.runs, *evidence.conformance)]
    wrong = Counter(
        {
            "drivers": 1,
            "lost attempts": sum(one.fate is Fate.LOST for one in campaign.attempts) if code >= 0 else 0,
            "wrong: passed with a job missing": int(bool(missing) and verdict is Verdict.PASS),
            "wrong: whole and not passed": int(not missing and bool(evidence.runs) and verdict is not Verdict.PASS),
            "wrong: counted twice": len(counting) - len(set(counting)),
            "wrong: superseded and counted": sum(name in _superseded(campaign) for name in counting),
            "wrong: whole and evidence missing": int(not missing and len(counting) != N_JOBS),
            "wrong: records damaged": len(campaign.problems),
        }
    )
    if code >= 0 and evidence.runs:
        wrong["wrong: exit code is not the gate's"] = int(code != judge(evidence).exit_code)
    return wrong


def _superseded(campaign: Campaign) -> set[str]:
    return {Path(one.directory).name for one in campaign.superseded()}


def main(count: int, real: bool) -> int:
    """Kill so often, and print what came of it."""
    draw = random.Random(0)
    found: Counter[str] = Counter()
    while found["kills"] < count:
        found += kill_some(draw, min(count - found["kills"], draw.randint(1, 12)), real)
        print(f"\r{found['kills']} of {count} kills", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for name, n in sorted(found.items()):
        print(f"{name:40} {n:>8,}")
    n_wrong = sum(n for name, n in found.items() if name.startswith("wrong"))
    print(f"{'wrong in all':40} {n_wrong:>8,}")
    return int(n_wrong > 0)


if __name__ == "__main__":
    words = sys.argv[1:]
    numbers = [int(word) for word in words if word.isdigit()]
    sys.exit(main(numbers[0] if numbers else 200, "--real" in words))
