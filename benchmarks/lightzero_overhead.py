"""What watching costs a LightZero training: median of paired runs, one watched and one not, in alternating order.

Needs an environment with LightZero: ``make test-lightzero`` builds one, then
``.venv-lightzero/bin/python benchmarks/lightzero_overhead.py``. Every run is a process of its own on one thread; timed
is the training alone. Runs of one seed differ (LightZero seeds its tie-breaking from the clock), so times are taken
per env step. The self-test with which a session opens costs the same whatever the length of the run, so it is not in
the ratio but stands beside it. On a busy machine look at the CPU column.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent

TRAINING = """
import json, sys, time
sizes = json.loads(sys.argv[1])
from shadow.hosts.lightzero import install
from validator.session import open_from_settings
opening = {"wall_s": 0.0, "cpu_s": 0.0}
def opened(settings, about):
    wall, cpu = time.perf_counter(), time.process_time()
    session = open_from_settings(settings, about)
    opening.update(wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)
    return session
if sizes["watched"]:
    installation = install(opened, force=True)
from zoo.classic_control.cartpole.config.cartpole_unizero_config import create_config, main_config
import lzero.entry
import lzero.worker
from lzero.worker import MuZeroCollector
envs = dict(collector_env_num=sizes["envs"], evaluator_env_num=2)
main_config.exp_name = "data/run"
main_config.env.update(n_evaluator_episode=2, **envs)
main_config.policy.update(n_episode=sizes["envs"], num_simulations=sizes["simulations"], cuda=False,
                          batch_size=sizes["batch"], **envs)
main_config.policy.model.world_model_cfg.update(device="cpu", env_num=sizes["envs"],
                                                num_simulations=sizes["simulations"], **envs)
create_config.env_manager.type = "base"
collectors = []
build = MuZeroCollector.__init__
def building(self, *args, **kwargs):
    build(self, *args, **kwargs)
    collectors.append(self)
MuZeroCollector.__init__ = building
wall, cpu = time.perf_counter(), time.process_time()
lzero.entry.train_unizero([main_config, create_config], seed=0, max_env_step=sizes["env_steps"])
wall, cpu = time.perf_counter() - wall - opening["wall_s"], time.process_time() - cpu - opening["cpu_s"]
steps = collectors[0].envstep
found = {"wall_s": wall / steps, "cpu_s": cpu / steps, "env_steps": steps}
if sizes["watched"]:
    installation.validation.close()
    from reports.reader import read_run
    run = read_run(installation.validation.run_dir)
    found |= {"opening_s": opening["cpu_s"], "lookups": run.totals.n_lookups, "divergences": run.totals.n_divergences}
print("MEASURED", json.dumps(found))
"""


def measured(sizes: dict[str, int], watched: bool) -> dict[str, float]:
    """Train once in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as cwd:
        command = [sys.executable, "-c", TRAINING, json.dumps({**sizes, "watched": watched})]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the training failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.rpartition("MEASURED ")[2])
    return found


def main() -> None:
    """Measure pairs and print their ratios."""
    if find_spec("lzero") is None:
        print("LightZero is not installed here, so there is nothing to measure; see the first lines of this file")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("pairs", 3), ("envs", 2), ("simulations", 8), ("batch", 256), ("env-steps", 400)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"(default: {default})")
    arguments = vars(parser.parse_args())
    pairs = arguments.pop("pairs")
    ratios: dict[str, list[float]] = {"wall_s": [], "cpu_s": []}
    for index in range(pairs):
        order = (True, False) if index % 2 else (False, True)
        runs = {watched: measured(arguments, watched) for watched in order}
        for name, found in ratios.items():
            found.append(runs[True][name] / runs[False][name])
        print(
            f"pair {index + 1}: {runs[False]['wall_s'] * 1e3:.1f} ms per env step, watched "
            f"{runs[True]['wall_s'] * 1e3:.1f}; ratio {ratios['wall_s'][-1]:.3f} wall, {ratios['cpu_s'][-1]:.3f} CPU; "
            f"{runs[True]['lookups']:,} lookups, {runs[True]['divergences']} divergences; "
            f"session opened in {runs[True]['opening_s']:.1f} s",
            flush=True,
        )
    print(f"median of {pairs} pairs: {median(ratios['wall_s']):.3f} wall, {median(ratios['cpu_s']):.3f} CPU")


if __name__ == "__main__":
    main()
