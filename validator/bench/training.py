"""The embedded training with legacy only, manager only, and both: time per env step, memory, hit rates, returns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

MODES = ("legacy", "new", "both")

# A process of its own for each run: peak memory is a process's, and no run warms another one up.
_PROGRAM = """
import json, resource, sys, tempfile, time
from shadow.hosts.unizero import load_config, train
from validator.config import ValidationConfig
from validator.session import Lockstep
mode, path, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
switches = {"use_new_cache_manager": mode == "new", "cache_validation_mode": mode == "both", "cache_validation": {}}
config = load_config(path, total_env_steps=steps, world_model_cfg=switches)
with tempfile.TemporaryDirectory() as out:
    if mode == "both":
        with Lockstep(out, ValidationConfig(selftest=False)) as lockstep:
            began = time.process_time()
            result = train(config, validation=lockstep)
            spent = time.process_time() - began
        summary = json.loads((lockstep.run_dir / "summary.json").read_text())
    else:
        began = time.process_time()
        result, summary = train(config), None
        spent = time.process_time() - began
stats = result.cache_stats
pools = [*stats["init_pools"].values(), stats["recur_pool"]]
hits, asked = (sum(pool[name] for pool in pools) for name in ("hits", "total_queries"))
print(json.dumps({
    "us_per_env_step": spent / result.env_steps * 1e6,
    "wall_us_per_env_step": result.wall_s / result.env_steps * 1e6, "env_steps": result.env_steps,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "hit_rate": hits / asked,
    "mean_return": result.mean_return(slice(-20, None)), "weights": result.weights_digest,
    "actions": result.actions_digest,
    "divergences": None if summary is None else summary["divergences"]["total"],
    "lookups": None if summary is None else sum(summary["lookups"].values()),
    "share_of_wall": None if summary is None else summary["overhead"]["share_of_wall"],
}))
"""


def bench_training(config: Path, env_steps: int, rounds: int) -> list[dict[str, Any]]:
    """Train with the same seed under each mode, round by round.

    Args:
        config: Training configuration, TOML.
        env_steps: Length of each run.
        rounds: Runs of each mode.

    Returns:
        One record per mode. Times are medians of processor time (torch computes in one thread); ``ratio`` is the
        median over the rounds against legacy only.
    """
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode in MODES:
            command = [sys.executable, "-c", _PROGRAM, mode, str(config), str(env_steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"training with {mode} failed: {done.stderr[-800:]}")
            runs[mode].append(json.loads(done.stdout.splitlines()[-1]))
    found = []
    for mode in MODES:
        ratios = [
            one["us_per_env_step"] / other["us_per_env_step"]
            for one, other in zip(runs[mode], runs["legacy"], strict=True)
        ]
        record = {"mode": mode, **runs[mode][0], "ratio": statistics.median(ratios)}
        for name in ("us_per_env_step", "peak_bytes"):
            record[name] = statistics.median(run[name] for run in runs[mode])
        found.append(record)
    return found
