"""What does a campaign cost beside its jobs, and how long does it take to fold a thousand runs?

Jobs that do nothing show what starting, awaiting and recording one takes outside its own process. Then a thousand runs,
as large as those of ``configs/validate.toml``, are folded by ``campaign --resume``: judged, and put on one page.
``--smoke N`` besides runs N seeds of ``configs/smoke.toml``, each alone with one thread, and then as one campaign.

    python benchmarks/campaign_speed.py
    python benchmarks/campaign_speed.py --smoke 16
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gate_speed import N_RUNS, watched_mb, write_run

from reports.read.campaign import read_campaign, write_attempt, write_campaign
from reports.record.campaign import Attempt, Fate, Job
from validator.campaign import process
from validator.campaign.drive import drive
from validator.campaign.local import Local

OUTSIDE_S, FOLD_S, FOLD_MB, PAGE_MB, SMOKE = 0.3, 10.0, 200, 2.0, 1.25
COMMAND = [sys.executable, "-m", "validator.cli"]
N_IDLE = 40


class Nobody:
    """Hears nothing."""

    def changed(self, job: Job, attempt: Attempt) -> None: ...
    def looked(self) -> None: ...


def main() -> int:
    """Measure, and print a line for each."""
    with tempfile.TemporaryDirectory() as directory:
        missed = _outside(Path(directory)) + _folded(Path(directory))
        if "--smoke" in sys.argv:
            missed += _smoke(Path(directory), int(sys.argv[sys.argv.index("--smoke") + 1]))
    return int(missed > 0)


def _outside(directory: Path) -> int:
    process.COMMAND = (sys.executable, "-S", "-E", "-c", "pass")
    path = _made(directory / "idle", N_IDLE)
    campaign = read_campaign(path)
    begin = time.monotonic()
    drive(campaign, campaign.jobs, Local(1, N_IDLE, 0.0), Nobody())
    each_s = (time.monotonic() - begin) / N_IDLE
    print(
        f"a job that does nothing, one at a time: {each_s * 1000:.0f} ms, its process included (wanted: {OUTSIDE_S} s)"
    )
    return int(each_s > OUTSIDE_S)


def _folded(directory: Path) -> int:
    path = _made(directory / "folded", N_RUNS)
    for number in range(N_RUNS):
        attempt = Attempt(number, 1, Fate.JUDGED, 0, host="here", seconds=1.0)
        (path / attempt.directory).mkdir(parents=True)
        write_run(path / attempt.directory, number)
        write_attempt(path, attempt)
    begin, before = time.monotonic(), _cpu_s()
    fold = subprocess.Popen([*COMMAND, "campaign", "--resume", str(path)], stdout=subprocess.PIPE, text=True)
    peak_mb = watched_mb(fold)
    took_s, page_mb = time.monotonic() - begin, (path / "report.html").stat().st_size / 1e6
    about = f"{took_s:.1f} s ({_cpu_s() - before:.1f} s of one core)  {peak_mb:.0f} MB  page {page_mb:.2f} MB"
    print(f"{N_RUNS:,} runs folded: {about}  exit code {fold.returncode}")
    return int(took_s > FOLD_S) + int(peak_mb > FOLD_MB) + int(page_mb > PAGE_MB)


def _smoke(directory: Path, n: int) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    config = ["train", "--config", "smoke"]
    begin, before = time.monotonic(), _cpu_s()
    for seed in range(n):
        alone = [*COMMAND, *config, "--quiet", "--seed", str(seed), "--out", str(directory / "alone")]
        subprocess.run(alone, env=environment, check=True, stdout=subprocess.DEVNULL)
    alone_s, alone_cpu_s = time.monotonic() - begin, _cpu_s() - before
    cores = len(os.sched_getaffinity(0))
    begin, before = time.monotonic(), _cpu_s()
    campaign = ["campaign", "--seeds", f"0..{n - 1}", "--policy", "smoke", "--out", str(directory / "c"), "--", *config]
    done = subprocess.run([*COMMAND, *campaign], stdout=subprocess.DEVNULL)
    took_s = time.monotonic() - begin
    share = took_s / (alone_s / cores)
    print(
        f"{n} smoke runs: {alone_s:.0f} s one by one, {took_s:.0f} s as a campaign on {cores} cores: {share:.2f} of a"
    )
    print(f"perfect division (wanted: {SMOKE}), exit code {done.returncode}")
    print(f"processor time: {alone_cpu_s:.0f} s one by one, {_cpu_s() - before:.0f} s as a campaign")
    return int(share > SMOKE)


def _made(path: Path, n_jobs: int) -> Path:
    path.mkdir()
    jobs = [Job(n, ("train", "--config", "validate", "--seed", "{seed}"), n) for n in range(n_jobs)]
    write_campaign(path, {"policy": "", "waivers": []}, jobs)
    return path


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
