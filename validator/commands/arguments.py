"""What can be typed after ``kv-lockstep``: every command with its arguments, its examples and its exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Add: TypeAlias = Callable[..., Any]  # ``add_argument`` of one command

_JUDGED = "exit codes: 0 PASS, 1 FAIL, 2 usage or unreadable input, 3 fault of kv-lockstep itself, 5 INCONCLUSIVE"
_SHOWN = "exit codes: 0 shown, whatever the verdict, 2 usage or unreadable input, 3 fault of kv-lockstep itself"


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line; ``command`` names the module in ``validator.commands``."""
    whole = argparse.ArgumentParser(
        prog="kv-lockstep",
        description="Run a trusted and a new KV cache in lockstep while training; say whether the new one may ship.",
        epilog=f"example:\n  kv-lockstep train\n\n{_JUDGED}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"kv-lockstep {installed_version()}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    declared = (
        *(_train, _run, _ab, _replay, _shrink, _bundle, _drill, _report),
        *(_watch, _compare, _gate, _campaign, _conformance, _selftest, _bench),
    )
    for declare in declared:
        declare(commands)
    return whole


def _train(commands: Commands) -> None:
    examples = [
        "kv-lockstep train",
        "kv-lockstep train --config small_pools --out runs/quirks",
        "kv-lockstep train --config configs/validate.toml --primary new --set total_env_steps=400",
    ]
    what = "train the embedded UniZero-style agent, both caches in lockstep, and judge"
    add = _command(commands, "train", what, examples)
    shipped = "a TOML file, or validate, smoke, small_pools, ample_pools, learn (default: validate)"
    add("--config", default="validate", metavar="CONFIG", help=f"what to train: {shipped}")
    add("--out", metavar="DIR", help="directory under which the run directory is made (default: runs)")
    add("--seed", type=int, metavar="N", help="seed of the training")
    _primary(add, "legacy (the control: shadow stage) or new (the candidate: canary)")
    _sides(add)
    _record(add)
    _no_shrink(add)
    oracle = "also recompute some of it without a cache, to see what both sides get wrong together; see docs/oracle.md"
    add("--oracle", action="store_true", help=oracle)
    _settings(add, "change one setting of the file, such as world_model_cfg.num_simulations=25")
    add("--no-validation", action="store_true", help="train with one cache alone; nothing is judged")
    add("--quiet", action="store_true", help="print only the verdict and where the run is")


def _run(commands: Commands) -> None:
    examples = [
        "kv-lockstep run -- cartpole_unizero_config.py",
        "kv-lockstep run --set policy.num_simulations=8 --set max_env_step=400 -- cartpole_unizero_config.py",
        "kv-lockstep run --generate my_caches:candidate -- my_script.py",
        "kv-lockstep run --generate my_caches:candidate -- -m my_package.evaluate --beams 4",
    ]
    what = "run an unmodified script of LightZero, or one that generates, with its KV caches in lockstep, and judge"
    add = _command(commands, "run", what, examples, f"{_JUDGED};\nif the script itself fails, its own exit code")
    add("--out", metavar="DIR", help="directory of runs (default: validation under the script's exp_name)")
    made = "shadow every cache of transformers' generate() with a candidate that this makes; without it: LightZero's"
    add("--generate", metavar="MODULE:CALLABLE", help=made)
    _primary(add, "legacy (the script's own: shadow stage) or new (canary)")
    _record(add)
    _no_shrink(add)
    _settings(
        add,
        "change one setting of the script's config (policy.num_simulations=8, create.env_manager.type=base, "
        "cache_validation.audit_share=1.0), or an argument of its training entry (max_env_step=400)",
    )
    add("script", type=Path, metavar="SCRIPT", help="the script as after 'python', or -m MODULE")
    add("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")


def _ab(commands: Commands) -> None:
    examples = [
        "kv-lockstep ab --config validate",
        "kv-lockstep ab --seeds 5 --set policy.num_simulations=8 --set max_env_step=400 -- cartpole_unizero_config.py",
    ]
    what = "train with the old cache alone and the new cache alone, over several seeds, and compare"
    add = _command(commands, "ab", what, examples)
    add("--config", metavar="CONFIG", help="what to train the embedded agent on: a TOML file, or a name as in train")
    add("--out", metavar="DIR", help="directory under which the result directory is made (default: runs)")
    add("--seeds", type=int, default=3, metavar="N", help="seeds, each trained twice (default: 3)")
    add("--seed", type=int, metavar="N", help="the first of them (default: the configuration's, or 0)")
    _sides(add)
    _settings(add, "change one setting, as in train (with --config) or run (with a script)")
    judging = "gate policy whose table [training] judges: a TOML file, or remove-legacy (default: 3 seeds, 5 %%)"
    add("--policy", metavar="POLICY", help=judging)
    add("--quiet", action="store_true", help="print only the comparison and where it is")
    add("script", type=Path, nargs="?", metavar="SCRIPT", help="a LightZero script, after --")
    add("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")


def _replay(commands: Commands) -> None:
    examples = [
        "kv-lockstep replay runs",
        "kv-lockstep replay runs --candidate my_package.my_cache:MyCache",
    ]
    what = "play what a run recorded once more, on the same two caches or on others, and judge"
    add = _command(commands, "replay", what, examples)
    traced = "run directory, a directory of runs for the latest one, or the index of one trace"
    add("run", type=Path, metavar="RUN", help=traced)
    add("--out", metavar="DIR", help="directory under which the run directory is made (default: runs)")
    _sides(add, "", "", ("what was recorded", "what was recorded"))
    _primary(add, "legacy (the control) or new (the candidate); default: as recorded")


def _shrink(commands: Commands) -> None:
    examples = [
        "kv-lockstep shrink runs",
        "kv-lockstep shrink runs --divergence 0 --out tests",
        "kv-lockstep shrink runs --cause 'capacity eaten'",
    ]
    codes = (
        "exit codes: 0 each is a test now, 2 usage or unreadable input, 3 fault of kv-lockstep itself, 5 one is none"
    )
    what = "turn divergences of a run into tests of about ten lines that fail for the same reason"
    add = _command(commands, "shrink", what, examples, codes)
    _one_run(add, "run", "RUN")
    add("--divergence", type=int, metavar="N", help="this one (default: the first of each cause and side)")
    add("--cause", metavar="NAME", help="the first of this cause, as the report names it")
    add("--seconds", type=float, default=60.0, metavar="S", help="time for each; then the best so far (default: 60)")
    add("--within", type=float, metavar="S", help="time for all together (default: no limit)")
    add("--out", metavar="DIR", help="where to write test_divergence_NNN.py (default: repros in the run directory)")
    _sides(add, "", "", ("what was recorded", "what was recorded"))


def _bundle(commands: Commands) -> None:
    examples = ["kv-lockstep bundle runs", "kv-lockstep bundle runs --with-config -o divergence.tar.gz"]
    codes = "exit codes: 0 packed, 2 usage, or nothing that can be packed, 3 fault of kv-lockstep itself"
    what = "pack a run, its trace, its tests and its page into one archive, to be attached to an issue"
    add = _command(commands, "bundle", what, examples, codes)
    _one_run(add, "run", "RUN")
    kept = "leave the configuration, the command line and what else is your own in it; secrets never are"
    add("--with-config", action="store_true", help=kept)
    where = "archive to write, .zip or .tar.gz; an old one is replaced (default: <run_id>.zip here)"
    add("-o", "--output", type=Path, metavar="FILE", help=where)


def _drill(commands: Commands) -> None:
    examples = [
        "kv-lockstep drill --config small_pools",
        "kv-lockstep drill --set policy.num_simulations=8 --set max_env_step=400 -- cartpole_unizero_config.py",
        "kv-lockstep drill --fault 'a re-set is ignored' -- my_training.py --steps 1000",
        "kv-lockstep drill -- -m pytest tests/test_my_cache.py",
        "kv-lockstep drill --list",
    ]
    codes = (
        "exit codes: 0 every planted fault that could show was found, 1 one was not, 2 usage, or a program\n"
        "that can't be drilled, 3 fault of kv-lockstep itself, 5 nothing was shown"
    )
    what = "run your own program with faults planted in the candidate: would it show them?"
    add = _command(commands, "drill", what, examples, codes)
    add("--config", metavar="CONFIG", help="the embedded agent: a TOML file, or a name as in train")
    _settings(add, "change one setting, as in train (with --config) or run (a LightZero script)")
    one = "plant this one, by its name or a part of it; repeatable"
    add("--fault", action="append", default=[], metavar="NAME", help=one)
    each = "plant these (default: one of each kind that the program could show)"
    add("--faults", default="", metavar="A,B", help=each)
    add("--all", action="store_true", help="plant every one that the program could show")
    add("--list", action="store_true", help="list the planted faults, and run nothing")
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    longest = "stop a run after so long; 0 for never (default: 3600)"
    add("--timeout", type=float, default=3600.0, metavar="S", help=longest)
    add("--out", metavar="DIR", help="directory under which the drill directory is made (default: runs)")
    add("--json", action="store_true", help="print everything as JSON instead of the table")
    program = "your program after --, as after 'python': SCRIPT.py ARGS, or -m MODULE ARGS"
    add("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help=program)


def _report(commands: Commands) -> None:
    examples = [
        "kv-lockstep report runs",
        "kv-lockstep report runs --format html",
        "kv-lockstep report runs --format markdown --output report.md",
    ]
    what = "show one run: verdict, outcomes, latency, memory, divergences"
    add = _command(commands, "report", what, examples, _SHOWN)
    _one_run(add, "run", "RUN")
    formats = ("terminal", "html", "markdown", "junit", "json")
    where = "html writes report.html into the run directory, the others print (default: terminal)"
    add("--format", choices=formats, default="terminal", help=where)
    add("--output", type=Path, metavar="FILE", help="where to write; - for standard output")
    trackers = ("tensorboard", "wandb", "mlflow")
    add("--to", choices=trackers, help="log metrics and the HTML page into a tracker")


def _watch(commands: Commands) -> None:
    what = "follow a run in progress: outcomes, hit rates, operations per second, the last divergence; or a campaign"
    add = _command(commands, "watch", what, ["kv-lockstep watch runs"], _SHOWN)
    followed = "run directory, a directory of runs for the latest one, or the directory of a campaign"
    add("run", type=Path, metavar="RUN", help=followed)
    add("--every", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    add("--once", action="store_true", help="look once")


def _compare(commands: Commands) -> None:
    examples = [
        "kv-lockstep compare runs/before runs/after",
        "kv-lockstep compare runs/before runs/after --format html",
    ]
    what = "compare two runs: divergences, hit rates, latency, memory, coverage"
    add = _command(commands, "compare", what, examples, _SHOWN)
    _one_run(add, "run_a", "RUN_A")
    _one_run(add, "run_b", "RUN_B")
    add("--format", choices=("terminal", "html"), default="terminal", help="default: terminal")
    add("--output", type=Path, metavar="FILE", help="where to write HTML (default: compare.html in RUN_B)")


def _gate(commands: Commands) -> None:
    examples = [
        "kv-lockstep gate runs",
        "kv-lockstep gate runs --policy shadow-to-canary",
        "kv-lockstep gate runs --policy canary-to-default --waivers legacy-ring",
        "kv-lockstep gate runs --record runs/decision.json --by 'A. Reviewer'",
        "kv-lockstep gate --verify runs/decision.json",
        "kv-lockstep gate runs --record runs/signed.json --key-file gate.key",
    ]
    codes = f"{_JUDGED};\n--verify: the recorded verdict's code if nothing changed, else 5, or 1 if that was a FAIL"
    add = _command(commands, "gate", "judge runs by a policy: may the candidate ship?", examples, codes)
    runs = "run directory, or a directory of runs for all of them"
    add("runs", type=Path, nargs="*", metavar="RUN", help=runs)
    demanded = "a TOML file, or smoke, shadow-to-canary, canary-to-default, remove-legacy"
    add("--policy", metavar="POLICY", help=f"what is demanded: {demanded} (default: built in, for single runs)")
    permitted = "which divergences are permitted: a TOML file, or legacy-ring; repeatable (default: none)"
    add("--waivers", action="append", default=[], metavar="WAIVERS", help=permitted)
    record = "write who judged what, when and how, with a digest of every file"
    add("--record", type=Path, metavar="FILE", help=record)
    add("--by", metavar="NAME", help="who answers for it in the record (default: the user)")
    add("--verify", type=Path, metavar="FILE", help="look whether what a record names is still what it was")
    signed = "sign the record with HMAC-SHA256, or check its signature, by the key in this file"
    add("--key-file", type=Path, metavar="FILE", help=signed)


def _campaign(commands: Commands) -> None:
    examples = [
        "kv-lockstep campaign --seeds 1..4 --primary both -- train --config smoke",
        "kv-lockstep campaign --seeds 1..16 --policy shadow-to-canary --jobs 8 -- train --config validate",
        "kv-lockstep campaign --seeds 1..8 -- run --set seed={seed} -- cartpole_unizero_config.py",
        "kv-lockstep campaign rollout.toml --on ray --at 10.0.0.1:6379",
        "kv-lockstep campaign --resume campaigns/campaign-20261129-010203-box-17-c0de",
    ]
    codes = f"{_JUDGED};\n--only: that of the job"
    what = "run many jobs, here or on a cluster, and judge all of them as one"
    add = _command(commands, "campaign", what, examples, codes)
    add("--seeds", default="", metavar="SEEDS", help="one job for each: 1..16, or 1,2,5")
    add("--primary", choices=("legacy", "new", "both"), default="", help="whose answers the model receives in each job")
    add("--ranks", type=int, default=1, metavar="N", help="processes of each job, under torchrun (default: 1)")
    demanded = "what the gate demands in the end: a TOML file, or a name as in gate (default: built in)"
    add("--policy", default="", metavar="POLICY", help=demanded)
    permitted = "which divergences are permitted, as in gate; repeatable (default: none)"
    add("--waivers", action="append", default=[], metavar="WAIVERS", help=permitted)
    add("--timeout", type=float, metavar="S", help="seconds for each job (default: no limit)")
    add("--on", choices=("local", "ray", "print"), default="local", help="where jobs run (default: local)")
    add("--jobs", type=int, default=0, metavar="N", help="local: how many at a time (default: one a core)")
    add("--at", default="", metavar="ADDRESS", help="ray: the cluster (default: a Ray of this machine alone)")
    add("--cpus", type=float, default=1.0, metavar="N", help="ray: cores for each job (default: 1)")
    add("--gpus", type=float, default=0.0, metavar="N", help="ray: GPUs for each job, may be a share (default: 0)")
    add("--out", metavar="DIR", help="directory under which the campaign's is made (default: campaigns)")
    add("--resume", type=Path, metavar="CAMPAIGN", help="run what is missing of a campaign, and nothing twice")
    add("--only", type=int, metavar="N", help="with --resume: run this job alone; for launchers, see --on print")
    add("--yes", action="store_true", help="go on where it would stop and ask: very many jobs, jobs of a lost machine")
    add("--quiet", action="store_true", help="print only the verdict and where everything is")
    add("job", nargs="*", metavar="CAMPAIGN.toml | -- JOB", help="a file, or what follows kv-lockstep")


def _conformance(commands: Commands) -> None:
    examples = [
        "kv-lockstep conformance --ops 20000",
        "kv-lockstep conformance --candidate my_package.my_cache:MyCache --ops 20000",
        "kv-lockstep conformance --ops 20000 --out runs",
        "kv-lockstep conformance --shape append --control my_caches:old --candidate my_caches:new --ops 20000",
        "kv-lockstep conformance --shape mapping --control cachetools:LRUCache --candidate my_package:MyCache",
    ]
    codes = "exit codes: 0 both do what they declare, 1 one does not, 2 usage, 3 fault of kv-lockstep itself"
    what = "hold two caches against their models on adversarial operation streams, without training"
    add = _command(commands, "conformance", what, examples, codes)
    _sides(add, control="legacy", candidate="new")
    shapes = (
        "what is called to make a CACHE: pools: MAKE(config=..., env_num=...), mapping: MAKE(capacity), else MAKE(), "
        "append: MAKE() (default: pools)"
    )
    add("--shape", choices=("pools", "mapping", "append"), default="pools", help=shapes)
    add("--ops", type=int, default=20_000, metavar="N", help="operations (default: 20000)")
    add("--seed", type=int, default=0, metavar="N", help="same seed, same streams (default: 0)")
    add("--out", metavar="DIR", help="also leave the result there, beside the runs, for the gate")


def _selftest(commands: Commands) -> None:
    codes = "exit codes: 0 all noticed and nobody innocent charged, 2 usage, 3 not so, or another fault of kv-lockstep"
    what = "plant faults in sound caches and show that the harness notices, names and charges each"
    add = _command(commands, "selftest", what, ["kv-lockstep selftest", "kv-lockstep selftest --full --verbose"], codes)
    add("--full", action="store_true", help="on either side, on both, under both primaries")
    add("--ops", type=int, default=600, metavar="N", help="operations per planted fault, at most")
    add("--seed", type=int, default=0, metavar="N", help="same seed, same streams (default: 0)")
    add("--oracle", action="store_true", help="plant faults in hosts instead, which only a recomputation shows")
    add("--verbose", action="store_true", help="list every planted fault with what was named")


def _bench(commands: Commands) -> None:
    codes = "exit codes: 0 measured, whether targets are met or not, 2 usage, 3 fault of kv-lockstep itself"
    what = "measure the new store against the old one, and what validating adds"
    add = _command(commands, "bench", what, ["kv-lockstep bench --quick", "kv-lockstep bench --json bench.json"], codes)
    add("--quick", action="store_true", help="fewer rounds and a short training: about a minute")
    add("--added", action="store_true", help="count calls and kernels added per operation, and nothing else")
    add("--json", metavar="FILE", help="also write everything measured")
    growth = "operations of the growth test (default: 10^7, minutes)"
    add("--growth", type=int, default=10_000_000, metavar="N", help=growth)
    measured = "training to measure: a TOML file, or a name as in train (default: validate)"
    add("--config", default="validate", metavar="CONFIG", help=measured)


def _command(commands: Commands, name: str, what: str, examples: Sequence[str], exit_codes: str = _JUDGED) -> Add:
    """Declare a command, and return what adds arguments to it."""
    command = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}{'' if what.endswith('?') else '.'}",
        epilog="\n  ".join(("example:", *examples)) + f"\n\n{exit_codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--traceback", action="store_true", help="show the traceback of an unexpected error")
    return command.add_argument


def _one_run(add: Add, name: str, shown: str) -> None:
    add(name, type=Path, metavar=shown, help="run directory, or a directory of runs for the latest one")


def _primary(add: Add, which: str) -> None:
    add("--primary", choices=("legacy", "new"), help=f"whose answers the model receives: {which}")


def _record(add: Add) -> None:
    add(
        "--record",
        choices=("digests", "failing", "all", "off"),
        help="what is recorded, to be played again (default: digests)",
    )


def _no_shrink(add: Add) -> None:
    what = "make no test of the first divergence of each cause at the end (shrink_s seconds, 20 by default)"
    add("--no-shrink", action="store_true", help=what)


def _sides(
    add: Add, control: str | None = None, candidate: str | None = None, otherwise: tuple[str, str] = ("legacy", "new")
) -> None:
    how = "legacy, new or module:Class (default:"
    add("--control", default=control, metavar="CACHE", help=f"the trusted cache: {how} {otherwise[0]})")
    add("--candidate", default=candidate, metavar="CACHE", help=f"the cache on trial: {how} {otherwise[1]})")


def _settings(add: Add, what: str) -> None:
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help=f"{what}; repeatable")


def installed_version() -> str:
    """Return the version that is installed here."""
    try:
        return metadata.version("kv-lockstep")
    except metadata.PackageNotFoundError:
        return "not installed"
