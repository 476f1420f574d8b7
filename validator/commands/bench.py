"""``kv-lockstep bench``: what the new store costs beside the old one, and what validating adds."""

from __future__ import annotations

import json
import os
import platform
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from reports.formats.terminal.layout import Page
from shadow.memory.dense import COMPILED
from validator.bench.added import added
from validator.bench.caches import bench_caches, bench_comparison
from validator.bench.device import bench_device
from validator.bench.harness import bench_bookkeeping, bench_growth
from validator.bench.training import bench_training
from validator.commands.byte_work import tell_if_not_compiled
from validator.commands.show import console
from validator.gate.shipped import TRAININGS, find_file

_BYTES = {True: "byte work compiled", False: "byte work in Python"}


class Target(NamedTuple):
    """One line of the targets' table: what, how it must be, what was measured."""

    what: str
    wanted: str
    measured: str
    met: bool


def main(arguments: Namespace) -> int:
    """Measure, print tables, and write everything as JSON if asked to.

    Args:
        arguments: ``quick, added, json, growth, config``; see ``arguments.py``.

    Returns:
        0: a benchmark judges nothing; what falls short says so in its line.
    """
    tell_if_not_compiled(console(stderr=True))
    if arguments.added:
        return _count(arguments.json)
    quick = bool(arguments.quick)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the embedded host computes; times of two threads on two busy cores say nothing
    try:
        config = find_file(TRAININGS, arguments.config, "training configuration")
        machine = {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "compiled": COMPILED,
        }
        found: dict[str, Any] = {"machine": machine}
        with console().status("") as status:
            status.update("old store against new")
            found["caches"] = bench_caches(9 if quick else 41)
            status.update("comparison of entries")
            found["comparison"] = bench_comparison(9 if quick else 41)
            status.update("bookkeeping of operations")
            found["bookkeeping_us"] = bench_bookkeeping(10 if quick else 50)
            found["growth"] = bench_growth(10_000 if quick else arguments.growth, status.update)
            status.update("entries on a device")
            found["device"] = bench_device(5 if quick else 21)
            status.update("embedded trainings, some seconds each")
            steps, rounds = (200, 2) if quick else (1300, 5)
            found["training"] = bench_training(config, steps, rounds) if config.exists() else []
    finally:
        torch.set_num_threads(threads)
    targets = _targets(found)
    found["targets"] = [target._asdict() for target in targets]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _show(found, targets)
    return 0


def _count(path: str | None) -> int:
    """Count what is added to an operation, print it, and write it as JSON if asked to."""
    found = added()
    if path:
        rows = [row._asdict() | {"time": row.time._asdict()} for row in found]
        Path(path).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    page = Page(console())
    page.heading("Added to an operation", "on average, beyond what both caches do; us: median (quartiles)")
    page.table(
        ["entries", "operation", "Python calls", "C calls", "objects", "kernels", "us"],
        [
            [*row[:2], *("-" if count is None else f"{count:.1f}" for count in row[2:6]), _spread(row.time._asdict())]
            for row in found
        ],
    )
    return 0


def _targets(found: dict[str, Any]) -> list[Target]:
    targets: list[Target] = []

    def at_most(limit: float, what: str, measured: float, shown: str = "{:.2f}", unit: str = "") -> None:
        targets.append(Target(what, f"<= {limit:g}{unit}", shown.format(measured) + unit, measured <= limit))

    for record in found["comparison"]:
        if record["size"] in ("Atari", "Memory"):
            equal, slower = f"equal {record['size']} entry", record["allclose_per_equal"]
            at_most(1.3, f"{equal}, per memcmp", record["equal_per_memcmp"])
            targets.append(Target(f"{equal}, allclose takes", ">= 15 x", f"{slower:.0f} x", slower >= 15))
            at_most(6, f"differing {record['size']} entry, per memcmp", record["differing_per_memcmp"], "{:.0f}")
    for kind in ("miss", "hit, nothing to compare", "set, nothing to copy"):
        at_most(4, f"bookkeeping: {kind}", found["bookkeeping_us"][kind], "{:.1f}", " us")
    growth = {round(point["operations"], -4): point for point in found["growth"]}
    points = sorted(growth)
    if len(points) > 1:
        last = growth[points[-1]]
        at_most(1.1, f"time per operation, after {points[-1]:,} to {points[0]:,}", last["per_young"])
        grown = (last["resident"] - growth[points[1]]["resident"]) / 1e6
        at_most(16, "resident memory growth from 10^5", grown, "{:.1f}", " MB")
    for record in found["training"]:
        if record["mode"] == "both":
            at_most(1.05, "embedded training, validated", record["ratio"])
    if device := found["device"]:
        at_most(0, "CUDA, waits per operation", device["waits_per_operation"], "{:g}")
        at_most(1.03, "CUDA, search at Atari size, validated", device["ratio"])
    for verb in ("set", "get", "get and copy"):
        worst = max((r for r in found["caches"] if r["verb"] == verb), key=lambda r: r["ratio"])
        at_most(0.8, f"manager {verb} per legacy, worst: {worst['size']}, {worst['fill']:.0%} full", worst["ratio"])
    most_bytes = max(r["bytes_held"]["new"] / r["bytes_held"]["legacy"] for r in found["caches"])
    at_most(1.0, "manager bytes per legacy, worst", most_bytes)
    return targets


def _show(found: dict[str, Any], targets: list[Target]) -> None:
    page = Page(console())
    machine = found["machine"]
    about = f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}, 1 thread"
    page.flush_left(page.text(f"{about}, {_BYTES[machine['compiled']]}"))
    page.heading("Targets")
    page.table(["what", "wanted", "measured", ""], [[*target[:3], "" if target.met else "short"] for target in targets])
    page.heading("Old and new store", "microseconds per call, median (quartiles)")
    page.table(
        ["size", "full", "call", "legacy", "new", "new/legacy"],
        [
            [r["size"], f"{r['fill']:.0%}", r["verb"], _spread(r["legacy"]), _spread(r["new"]), f"{r['ratio']:.2f}"]
            for r in found["caches"]
        ],
    )
    page.heading("Comparison", "microseconds per entry pair, median (quartiles)")
    names = ("memcmp", "equal", "allclose", "differing")
    page.table(
        ["size", "KiB", *names],
        [[r["size"], f"{r['nbytes'] / 1024:.0f}", *(_spread(r[name]) for name in names)] for r in found["comparison"]],
    )
    page.heading("Harness", "microseconds per operation beyond both sides' own time")
    page.table(["operation", "us"], [[name, f"{value:.1f}"] for name, value in found["bookkeeping_us"].items()])
    page.heading("Growth")
    page.table(
        ["operations", "us per operation", "per young pair", "resident MB"],
        [
            [f"{p['operations']:,.0f}", f"{p['us_per_op']:.1f}", f"{p['per_young']:.2f}", f"{p['resident'] / 1e6:.1f}"]
            for p in found["growth"]
        ],
    )
    page.heading("Entries on a device", "milliseconds per search, by events")
    page.flush_left(page.text(_device(found["device"])))
    if found["training"]:
        page.heading("Embedded training", "same seed, processor time")
        page.table(
            ["caches", "us per env step", "ratio", "peak MB", "hit rate", "mean return", "divergences", "same weights"],
            [
                [
                    r["mode"],
                    f"{r['us_per_env_step']:,.0f}",
                    f"{r['ratio']:.2f}",
                    f"{r['peak_bytes'] / 1e6:.0f}",
                    f"{r['hit_rate']:.3f}",
                    f"{r['mean_return']:.1f}",
                    "" if r["divergences"] is None else str(r["divergences"]),
                    "yes" if r["weights"] == found["training"][0]["weights"] else "NO",
                ]
                for r in found["training"]
            ],
        )


def _device(found: dict[str, Any] | None) -> str:
    if found is None:
        return "no CUDA device here"
    spent = found["ms_per_search"]
    return (
        f"{found['device']}: legacy alone {spent['legacy']:.2f}, both {spent['both']:.2f}, ratio {found['ratio']:.2f}, "
        f"{found['waits_per_operation']:g} waits per operation of {found['operations']:,}"
    )


def _spread(times: dict[str, float]) -> str:
    return f"{times['median_us']:.2f} ({times['low_us']:.2f}-{times['high_us']:.2f})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
