"""Does the embedded agent really learn, with caches in its search?

Compares the mean return of the last 20 episodes of a run with that of the first 20. Exits with 1 if it grew less than
threefold in any run.

    python benchmarks/learn.py
    python benchmarks/learn.py --seeds 0 1 2 --new-cache
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from shadow.hosts.unizero import Progress, load_config, train

EPISODES = 20
WANTED_RATIO = 3.0
COLUMNS = "seed  first 20   last 20   ratio  episodes  env steps  wall s"


def main() -> int:
    """Run once per seed and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs" / "learn.toml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed")
    parser.add_argument("--new-cache", action="store_true", help="let the new cache manager serve the model")
    arguments = parser.parse_args()
    switches = {"use_new_cache_manager": arguments.new_cache}
    print(COLUMNS)
    learned = True
    for seed in arguments.seeds:
        result = train(load_config(arguments.config, seed=seed, world_model_cfg=switches), on_progress=_show)
        first = result.mean_return(slice(None, EPISODES))
        last = result.mean_return(slice(-EPISODES, None))
        ratio = last / first if len(result.episode_returns) >= 2 * EPISODES else math.nan
        learned &= ratio >= WANTED_RATIO  # false for NaN, too: too few episodes show nothing
        _show(None)
        print(
            f"{seed:>4}  {first:>8.1f}  {last:>8.1f}  {ratio:>6.2f}  {len(result.episode_returns):>8}"
            f"  {result.env_steps:>9}  {result.wall_s:>6.1f}"
        )
        print(f"      {result.system}", flush=True)
    if not learned:
        print(f"NOT LEARNED: the last {EPISODES} episodes should return {WANTED_RATIO:g} times the first {EPISODES}")
    return 0 if learned else 1


def _show(progress: Progress | None) -> None:
    """Keep one line up to date on a terminal; say nothing elsewhere."""
    if not sys.stderr.isatty():
        return
    text = ""
    if progress is not None:
        recent = "" if progress.recent_return is None else f", recent return {progress.recent_return:.1f}"
        text = f"{progress.env_steps}/{progress.total_env_steps} env steps, {progress.wall_s:.0f} s{recent}"
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
