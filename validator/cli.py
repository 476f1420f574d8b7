"""The command line: the one place where arguments are declared, and where what went wrong becomes an exit code.

Nothing heavy is imported before a command needs it: ``report``, ``gate`` and ``--help`` work without torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

from reports.errors import RunDirectoryError, RunUnreadable
from reports.record.words import EXIT_HARNESS, EXIT_USAGE
from validator.errors import LockstepError

_EXIT_CODES = "exit codes: 0 PASS, 1 FAIL, 2 usage or unreadable input, 3 fault of kv-lockstep itself, 5 INCONCLUSIVE"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit code: 0 PASS, 1 FAIL, 2 usage or unreadable input, 3 a fault of the harness itself, 5 INCONCLUSIVE.
    """
    arguments = _parser().parse_args(argv)
    try:
        # A command is a module of its own name with a function ``main``, imported when it is asked for.
        code: int = import_module(f"validator.commands.{arguments.command}").main(arguments)
        sys.stdout.flush()
        return code
    except (LockstepError, RunUnreadable, RunDirectoryError) as problem:
        print(f"kv-lockstep {arguments.command}: {problem}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(f"kv-lockstep {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output went away, as 'head' does; nothing may be written while the interpreter shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as fault:
        if arguments.traceback:
            traceback.print_exc()
        print(
            f"kv-lockstep {arguments.command}: unexpected {type(fault).__name__}: {fault}\n"
            "This is a fault of kv-lockstep or of the training it ran, and no verdict on the candidate.\n"
            "Run the command again with --traceback and report its output; CONTRIBUTING.md says where and with what.",
            file=sys.stderr,
        )
        return EXIT_HARNESS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kv-lockstep",
        description="Run a trusted and a new KV cache in lockstep while training; say whether the new one may ship.",
        epilog=f"example:\n  kv-lockstep train --config configs/validate.toml\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = _command(
        commands,
        "train",
        "train the embedded UniZero-style agent, both caches in lockstep, and judge",
        [
            "kv-lockstep train --config configs/validate.toml",
            "kv-lockstep train --config configs/validate.toml --primary new --set total_env_steps=400",
        ],
    )
    train.add_argument("--config", type=Path, required=True, metavar="FILE", help="what to train, TOML")
    train.add_argument("--out", metavar="DIR", help="directory under which the run directory is made (default: runs)")
    train.add_argument("--seed", type=int, metavar="N", help="seed of the training")
    train.add_argument(
        "--primary",
        choices=("legacy", "new"),
        help="whose answers the model receives: legacy (the control: shadow stage) or new (the candidate: canary)",
    )
    implementation = "legacy, new or module:Class"
    train.add_argument("--control", metavar="CACHE", help=f"the trusted cache: {implementation} (default: legacy)")
    train.add_argument("--candidate", metavar="CACHE", help=f"the cache on trial: {implementation} (default: new)")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one setting of the file, such as world_model_cfg.num_simulations=25; repeatable",
    )
    train.add_argument("--no-validation", action="store_true", help="train with one cache alone; nothing is judged")
    train.add_argument("--quiet", action="store_true", help="print only the verdict and where the run is")

    run = _command(
        commands,
        "run",
        "run an unmodified LightZero script with its KV caches in lockstep, and judge",
        [
            "kv-lockstep run -- cartpole_unizero_config.py",
            "kv-lockstep run --set policy.num_simulations=8 --set max_env_step=400 -- cartpole_unizero_config.py",
        ],
        f"{_EXIT_CODES};\nif the script itself fails, its own exit code",
    )
    run.add_argument("--out", metavar="DIR", help="directory of runs (default: validation under the script's exp_name)")
    run.add_argument(
        "--primary",
        choices=("legacy", "new"),
        help="whose answers the model receives: legacy (LightZero's own store: shadow stage) or new (canary)",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one setting of the script's config (policy.num_simulations=8, create.env_manager.type=base, "
        "cache_validation.audit_share=1.0), or an argument of its training entry (max_env_step=400); repeatable",
    )
    run.add_argument("script", type=Path, metavar="SCRIPT", help="the script, as after 'python'")
    run.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")

    ab = _command(
        commands,
        "ab",
        "train with the old cache alone and the new cache alone, over several seeds, and compare",
        [
            "kv-lockstep ab --config configs/validate.toml",
            "kv-lockstep ab --seeds 5 --set policy.num_simulations=8 --set max_env_step=400 "
            "-- cartpole_unizero_config.py",
        ],
    )
    ab.add_argument("--config", type=Path, metavar="FILE", help="what to train the embedded agent on, TOML")
    ab.add_argument("--out", metavar="DIR", help="directory under which the result directory is made (default: runs)")
    ab.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds, each trained twice (default: 3)")
    ab.add_argument("--seed", type=int, metavar="N", help="the first of them (default: the configuration's, or 0)")
    ab.add_argument("--control", metavar="CACHE", help=f"the trusted cache: {implementation} (default: legacy)")
    ab.add_argument("--candidate", metavar="CACHE", help=f"the cache on trial: {implementation} (default: new)")
    ab.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one setting, as in train (with --config) or run (with a script); repeatable",
    )
    ab.add_argument(
        "--policy",
        metavar="POLICY",
        help="gate policy whose table [training] judges: a TOML file, or remove-legacy (default: 3 seeds, 5 %%)",
    )
    ab.add_argument("--quiet", action="store_true", help="print only the comparison and where it is")
    ab.add_argument("script", type=Path, nargs="?", metavar="SCRIPT", help="a LightZero script, after --")
    ab.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")

    report = _command(
        commands,
        "report",
        "show one run: verdict, outcomes, latency, memory, divergences",
        [
            "kv-lockstep report runs",
            "kv-lockstep report runs --format html",
            "kv-lockstep report runs --format markdown --output report.md",
        ],
        "exit codes: 0 shown, whatever the verdict, 2 usage or unreadable input, 3 fault of kv-lockstep itself",
    )
    report.add_argument(
        "run", type=Path, metavar="RUN", help="run directory, or a directory of runs for the latest one"
    )

    report.add_argument(
        "--format",
        choices=("terminal", "html", "markdown", "junit", "json"),
        default="terminal",
        help="html writes report.html into the run directory, the others print (default: terminal)",
    )
    report.add_argument("--output", type=Path, metavar="FILE", help="where to write; - for standard output")
    report.add_argument(
        "--to", choices=("tensorboard", "wandb", "mlflow"), help="log metrics and the HTML page into a tracker"
    )

    shown = "exit codes: 0 shown, whatever the verdict, 2 usage or unreadable input, 3 fault of kv-lockstep itself"
    watch = _command(
        commands,
        "watch",
        "follow a run in progress: outcomes, hit rates, operations per second, the last divergence",
        ["kv-lockstep watch runs"],
        shown,
    )
    watch.add_argument("run", type=Path, metavar="RUN", help="run directory, or a directory of runs for the latest one")
    watch.add_argument("--every", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    watch.add_argument("--once", action="store_true", help="look once")

    compare = _command(
        commands,
        "compare",
        "compare two runs: divergences, hit rates, latency, memory, coverage",
        ["kv-lockstep compare runs/before runs/after", "kv-lockstep compare runs/before runs/after --format html"],
        shown,
    )
    for name, which in (("run_a", "A"), ("run_b", "B")):
        compare.add_argument(
            name, type=Path, metavar=f"RUN_{which}", help="run directory, or a directory of runs for the latest one"
        )
    compare.add_argument("--format", choices=("terminal", "html"), default="terminal", help="default: terminal")
    compare.add_argument(
        "--output", type=Path, metavar="FILE", help="where to write HTML (default: compare.html in RUN_B)"
    )

    gate = _command(
        commands,
        "gate",
        "judge runs by a policy: may the candidate ship?",
        [
            "kv-lockstep gate runs",
            "kv-lockstep gate runs --policy shadow-to-canary",
            "kv-lockstep gate runs --policy canary-to-default --waivers legacy-ring",
            "kv-lockstep gate runs --record runs/decision.json --by 'A. Reviewer'",
            "kv-lockstep gate --verify runs/decision.json",
        ],
        f"{_EXIT_CODES};\n--verify: the recorded verdict's code if nothing changed, else 5, or 1 if that was a FAIL",
    )
    gate.add_argument(
        "runs", type=Path, nargs="*", metavar="RUN", help="run directory, or a directory of runs for all of them"
    )
    gate.add_argument(
        "--policy",
        metavar="POLICY",
        help="what is demanded: a TOML file, or smoke, shadow-to-canary, canary-to-default, remove-legacy "
        "(default: built in, for single runs)",
    )
    gate.add_argument(
        "--waivers",
        action="append",
        default=[],
        metavar="WAIVERS",
        help="which divergences are permitted: a TOML file, or legacy-ring; repeatable (default: none)",
    )
    gate.add_argument(
        "--record", type=Path, metavar="FILE", help="write who judged what, when and how, with a digest of every file"
    )
    gate.add_argument("--by", metavar="NAME", help="who answers for it in the record (default: the user)")
    gate.add_argument(
        "--verify", type=Path, metavar="FILE", help="look whether what a record names is still what it was"
    )

    conformance = _command(
        commands,
        "conformance",
        "hold two caches against their models on adversarial operation streams, without training",
        [
            "kv-lockstep conformance --ops 20000",
            "kv-lockstep conformance --candidate my_package.my_cache:MyCache --ops 20000",
            "kv-lockstep conformance --ops 20000 --out runs",
        ],
        "exit codes: 0 both do what they declare, 1 one does not, 2 usage, 3 fault of kv-lockstep itself",
    )
    conformance.add_argument("--control", default="legacy", metavar="CACHE", help=f"{implementation} (default: legacy)")
    conformance.add_argument("--candidate", default="new", metavar="CACHE", help=f"{implementation} (default: new)")
    conformance.add_argument("--ops", type=int, default=20_000, metavar="N", help="operations (default: 20000)")
    conformance.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same streams (default: 0)")
    conformance.add_argument("--out", metavar="DIR", help="also leave the result there, beside the runs, for the gate")

    selftest = _command(
        commands,
        "selftest",
        "plant faults in sound caches and show that the harness notices, names and charges each",
        ["kv-lockstep selftest", "kv-lockstep selftest --full --verbose"],
        "exit codes: 0 all noticed and nobody innocent charged, 2 usage, 3 not so, or another fault of kv-lockstep",
    )
    selftest.add_argument("--full", action="store_true", help="on either side, on both, under both primaries")
    selftest.add_argument("--ops", type=int, default=600, metavar="N", help="operations per planted fault, at most")
    selftest.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same streams (default: 0)")
    selftest.add_argument("--verbose", action="store_true", help="list every planted fault with what was named")

    bench = _command(
        commands,
        "bench",
        "measure the new store against the old one, and what validating adds",
        ["kv-lockstep bench --quick", "kv-lockstep bench --json bench.json"],
        "exit codes: 0 measured, whether targets are met or not, 2 usage, 3 fault of kv-lockstep itself",
    )
    bench.add_argument("--quick", action="store_true", help="fewer rounds and a short training: about a minute")
    bench.add_argument("--json", metavar="FILE", help="also write everything measured")
    bench.add_argument(
        "--growth",
        type=int,
        default=10_000_000,
        metavar="N",
        help="operations of the growth test (default: 10^7, minutes)",
    )
    bench.add_argument(
        "--config", type=Path, metavar="FILE", help="training to measure (default: configs/validate.toml)"
    )
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    examples: Sequence[str],
    exit_codes: str = _EXIT_CODES,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}{'' if summary.endswith('?') else '.'}",
        epilog="\n  ".join(("example:", *examples)) + f"\n\n{exit_codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--traceback", action="store_true", help="show the traceback of an unexpected error")
    return command


def _version() -> str:
    try:
        return f"kv-lockstep {metadata.version('kv-lockstep')}"
    except metadata.PackageNotFoundError:
        return "kv-lockstep, not installed"


if __name__ == "__main__":
    sys.exit(main())
