"""What watching costs a LightZero training: paired runs, one watched and one not, in alternating order.

Needs an environment with LightZero: ``make test-lightzero`` builds one, then
``.venv-lightzero/bin/python benchmarks/lightzero_overhead.py``. Every run is a process of its own on one thread; timed
is the training alone. With ``--together`` the two of a pair run at the same time on two cores, so that what else the
machine does hits both alike. Both runs of a pair do the same work: what LightZero takes from the clock and the
environments from the system's entropy is held still (``tests/lightzero/steady.py``; without a C compiler it is not,
which is said), and that the weights end up the same to the last bit is looked at. The self-test with which a session
opens costs the same whatever the length of the run, so it is not in the ratios but stands beside them. Figures, each
the median over the pairs with the least and the most:

* wall: wall-clock time per env step, watched per unwatched. Says nothing on a machine that others keep busy.
* CPU: the same in processor time.
* learning: wall-clock time of the learner's steps alone, in which no cache is asked anything. Where it is 1 and wall is
  not, watching costs at the operations and right after them, and does not slow the training as a whole.
* inside, with ``--inside``: processor time spent in kv-lockstep within the watched run, less the control's own work in
  it, added to one and over the rest. It compares a run with itself, so it barely scatters, but does not see what
  watching does to the processor's caches; and looking at the clock that often takes some 1 % of wall time itself.

Microseconds per operation are what the report calls overhead, spread over them: from the shadow's first line to its
last, less the primary's own time, and the audits at weight updates and episode ends. Set-up, some 5 s, is in both runs
of a pair, so a short training shows too small a ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent

TRAINING = """
import json, os, sys, time
from tests.lightzero.steady import seed_environments, weights
seed_environments()
sizes = json.loads(sys.argv[1])
from shadow.hosts.lightzero import install
from shadow.hosts.lightzero.attachment import InlineAttachment
from shadow.hosts.lightzero.inline import InlineStore
from validator.session import Lockstep, open_from_settings
opening = {"wall": 0.0, "cpu": 0.0}
def opened(settings, about):
    wall, cpu = time.perf_counter(), time.process_time()
    session = open_from_settings(settings, about)
    opening.update(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)
    if sizes["meet"]:
        open(sizes["meet"], "w").close()
    return session
inside = {"all": 0, "own": 0}
def timed(cls, name, kind):
    method = getattr(cls, name)
    def call(self, *args, **kwargs):
        if kind in busy:
            return method(self, *args, **kwargs)
        busy.add(kind)
        began = time.thread_time_ns()
        try:
            return method(self, *args, **kwargs)
        finally:
            inside[kind] += time.thread_time_ns() - began
            busy.discard(kind)
    setattr(cls, name, call)
busy = set()
if sizes["inside"]:
    for name in ("looked_up", "stored", "cleared", "_copying"):
        timed(InlineAttachment, name, "all")
    for name in ("weights_updated", "search_started", "episode_ended", "progress"):
        timed(Lockstep, name, "all")
    for name in ("get_init_cache", "get_recur_cache", "hierarchical_get", "set_init_cache", "set_recur_cache",
                 "clear_init_cache", "clear_recur_cache"):
        timed(InlineStore, name, "own")
if sizes["watched"]:
    installation = install(opened, force=True)
from zoo.classic_control.cartpole.config.cartpole_unizero_config import create_config, main_config
import lzero.entry
from lzero.policy.unizero import UniZeroPolicy
from lzero.worker import MuZeroCollector
envs = dict(collector_env_num=sizes["envs"], evaluator_env_num=2)
main_config.exp_name = "data/run"
main_config.env.update(n_evaluator_episode=2, **envs)
main_config.policy.update(n_episode=sizes["envs"], num_simulations=sizes["simulations"], cuda=sizes["device"] == "cuda",
                          batch_size=sizes["batch"], **envs)
main_config.policy.model.world_model_cfg.update(device=sizes["device"], env_num=sizes["envs"],
                                                num_simulations=sizes["simulations"], **envs)
if sizes["late"]:
    main_config.policy.model.world_model_cfg.cache_validation = dict(deferred="always")
create_config.env_manager.type = "base"
collectors = []
build = MuZeroCollector.__init__
def building(self, *args, **kwargs):
    build(self, *args, **kwargs)
    collectors.append(self)
MuZeroCollector.__init__ = building
while sizes["meet"] and not sizes["watched"] and not os.path.exists(sizes["meet"]):
    time.sleep(0.01)
learning = []
learn = UniZeroPolicy._forward_learn
def learning_too(self, *args, **kwargs):
    began = time.perf_counter()
    result = learn(self, *args, **kwargs)
    learning.append(time.perf_counter() - began)
    return result
UniZeroPolicy._forward_learn = learning_too
wall, cpu = time.perf_counter(), time.process_time()
policy = lzero.entry.train_unizero([main_config, create_config], seed=0, max_env_step=sizes["env_steps"])
wall, cpu = time.perf_counter() - wall - opening["wall"], time.process_time() - cpu - opening["cpu"]
steps = collectors[0].envstep
found = {"wall": wall / steps, "CPU": cpu / steps, "learning": sum(learning) / steps}
found |= {"env_steps": steps, "weights": weights(policy)}
if sizes["watched"]:
    installation.validation.close()
    from reports.reader import read_run
    totals = read_run(installation.validation.run_dir).totals
    added = (inside["all"] - inside["own"]) / 1e9
    found |= {"inside": 1 + added / (cpu - added), "opening_s": opening["cpu"], "lookups": totals.n_lookups,
              "divergences": totals.n_divergences,
              "us_per_operation": totals.harness_ns / sum(totals.ops.values()) / 1e3}
print("MEASURED", json.dumps(found))
"""


class Training:
    """One training in a process of its own.

    Args:
        sizes: Its sizes.
        watched: Whether it is watched.
        steady: Environment variables that hold still what is not seeded.
        meet: A file that the watched one of a pair makes when its session has opened, and the other waits for.
    """

    def __init__(
        self,
        sizes: dict[str, Any],
        watched: bool,
        steady: dict[str, str],
        meet: Path | None = None,
    ) -> None:
        environment = {**os.environ, **steady, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._directory = tempfile.TemporaryDirectory()
        more = {"watched": watched, "inside": watched and sizes["inside"], "meet": None if meet is None else str(meet)}
        command = [sys.executable, "-c", TRAINING, json.dumps({**sizes, **more})]
        # Into files: a pipe that nobody reads would hold the training up.
        self._output, self._errors = (Path(self._directory.name, name) for name in ("output", "errors"))
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, cwd=self._directory.name, env=environment, stdout=output, stderr=errors
            )

    @property
    def over(self) -> bool:
        """Whether it has ended; if it failed, this does not return."""
        if self._process.poll():
            sys.exit(f"the training failed:\n{self._errors.read_text()[-3000:]}")
        return self._process.returncode == 0

    def keep_to(self, core: int) -> None:
        """Have it go on on one core of the processor."""
        with suppress(ProcessLookupError):  # it has ended by now
            os.sched_setaffinity(self._process.pid, {core})

    def measured(self) -> dict[str, Any]:
        """Wait for its end, and return what it measured."""
        while not self.over:
            time.sleep(0.05)
        with self._directory:
            found: dict[str, Any] = json.loads(self._output.read_text().rpartition("MEASURED ")[2])
        return found

    def end(self) -> None:
        """End it, whatever it has done so far."""
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()


def one_after_the_other(sizes: dict[str, Any], pair: int, steady: dict[str, str]) -> dict[bool, dict[str, Any]]:
    """Train a pair, the watched one first in every other."""
    order = (True, False) if pair % 2 else (False, True)
    return {watched: Training(sizes, watched, steady).measured() for watched in order}


def together(sizes: dict[str, Any], pair: int, steady: dict[str, str]) -> dict[bool, dict[str, Any]]:
    """Train a pair at the same time on two cores, which the two swap four times a second.

    Both begin when the watched one's session has opened, and whichever ends last is kept company by a third: a
    neighbour costs time, and both are to have one throughout.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as directory:
        order = (True, False) if pair % 2 else (False, True)
        trainings = {watched: Training(sizes, watched, steady, Path(directory, "opened")) for watched in order}
        on_cores = [*trainings.values()]
        try:
            while not all(training.over for training in trainings.values()):
                for place, training in enumerate(on_cores):
                    if training.over:
                        on_cores[place] = Training(sizes, False, steady)
                on_cores.reverse()
                for training, core in zip(on_cores, cores, strict=True):
                    training.keep_to(core)
                time.sleep(0.25)
            return {watched: training.measured() for watched, training in trainings.items()}
        finally:
            for training in {*on_cores, *trainings.values()}:
                training.end()


def main() -> None:
    """Measure pairs and print their ratios."""
    if find_spec("lzero") is None:
        print("LightZero is not installed here, so there is nothing to measure; see the first lines of this file")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("pairs", 5), ("envs", 2), ("simulations", 8), ("batch", 256), ("env-steps", 400)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"(default: {default})")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where to train (default: cpu)")
    parser.add_argument("--together", action="store_true", help="train both of a pair at once, each on its own core")
    parser.add_argument("--inside", action="store_true", help="time what is spent inside kv-lockstep too")
    parser.add_argument("--late", action="store_true", help="compare late on any device, as for entries on a GPU")
    arguments = vars(parser.parse_args())
    pairs = arguments.pop("pairs")
    train = together if arguments.pop("together") else one_after_the_other
    if train is together and len(os.sched_getaffinity(0)) < 2:
        parser.error("--together needs two processor cores")
    sys.path.insert(0, str(ROOT))
    from tests.lightzero.steady import COMPILER, still_clock

    directory = tempfile.TemporaryDirectory()
    steady = still_clock(Path(directory.name)) if COMPILER else {}
    if not steady:
        print("no C compiler, so runs of one seed differ in what they do: look at --inside only")
    ratios: dict[str, list[float]] = {
        name: [] for name in ("wall", "CPU", "learning", *(["inside"] if arguments["inside"] else []))
    }
    for index in range(pairs):
        runs = train(arguments, index, steady)
        plain, watched = runs[False], runs[True]
        same = "the same weights" if plain["weights"] == watched["weights"] else "OTHER WEIGHTS"
        for name in ("wall", "CPU", "learning"):
            ratios[name].append(watched[name] / plain[name])
        if arguments["inside"]:
            ratios["inside"].append(watched["inside"])
        print(
            f"pair {index + 1}: {plain['CPU'] * 1e3:.1f} ms of processor time per env step, watched "
            f"{watched['CPU'] * 1e3:.1f}; ratio {', '.join(f'{name} {ratios[name][-1]:.3f}' for name in ratios)}; "
            f"{watched['us_per_operation']:.0f} us per operation; {watched['lookups']:,} lookups, "
            f"{watched['divergences']} divergences, {same}; session opened in {watched['opening_s']:.1f} s",
            flush=True,
        )
    for name, found in ratios.items():
        print(f"{name:8} median {median(found):.3f}, {min(found):.3f} to {max(found):.3f} over {pairs} pairs")


if __name__ == "__main__":
    main()
