"""A finished run into TensorBoard, Weights & Biases or MLflow, by whichever library is installed.

Never used by a training process: it runs after the run, from the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from reports.content.facts import SIDES, Judgement, classes, meaning, ran
from reports.content.series import over_training
from reports.content.text import line
from reports.record.run import Run

Tracker = Callable[[Run, Judgement, Path], str]


class TrackerUnusable(Exception):
    """A tracker's library is not installed, or refused the run: what to do about it."""


def track(name: str, run: Run, judgement: Judgement, page: Path) -> str:
    """Log a run.

    Args:
        name: One of ``TRACKERS``.
        run: What was recorded.
        judgement: What follows from it.
        page: The HTML page of the run, which is attached.

    Returns:
        Where it was logged.

    Raises:
        TrackerUnusable: If the library is missing, with the command that installs it, or refuses the run.
    """
    try:
        return TRACKERS[name](run, judgement, page)
    except TrackerUnusable:
        raise
    except Exception as refusal:  # no key, no server, no space: the library knows why
        said = f"{type(refusal).__name__}: {refusal}"
        raise TrackerUnusable(
            f"{name} did not take the run: {said:.600}; mend that and repeat the command"
        ) from refusal


def final_metrics(run: Run, judgement: Judgement) -> dict[str, float]:
    """Return what is logged once: counts, hit rates, latencies in nanoseconds, bytes, overhead."""
    totals = run.totals
    found: dict[str, float] = {"verdict/exit_code": float(getattr(judgement, "exit_code", -1))}
    found |= {f"lookups/{name}": float(count) for name, count in totals.outcomes().items()}
    found["divergences/total"] = float(totals.n_divergences)
    found |= {f"divergences/{fault}_at_fault": float(count) for fault, count in totals.divergences_by(2).items()}
    found |= {f"hit_rate/{side}": rate for side, rate in totals.hit_rate().items() if rate is not None}
    for name in totals.operations:
        for side in SIDES:
            for mark in (0.5, 0.99):
                if (value := totals.latency(side, name, mark)) is not None:
                    found[f"latency_ns/{name}/{side}_p{mark * 100:.0f}"] = value
    found |= {f"bytes_held/{side}": float(count) for side, count in totals.bytes_held.items()}
    found["overhead/harness_s"] = totals.harness_ns / 1e9
    return {f"final/{_named(name)}": value for name, value in found.items()}


def over_time(run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield what is logged step by step: the step and its metrics."""
    _, steps = over_training(run)
    for step in steps:
        metrics = {f"hit_rate/{side}": rate for side, rate in step.hit_rate.items() if rate is not None}
        metrics |= {"divergences/in_step": float(sum(step.divergences.values()))}
        metrics |= {f"bytes_held/{_named(side)}": float(count) for side, count in step.bytes_held.items()}
        yield int(step.at), metrics


def about(run: Run, judgement: Judgement) -> dict[str, str]:
    """Return what is logged as text: the verdict, and which classes stood on which side."""
    said = f"{judgement.verdict.value}: {meaning(run, judgement)}"
    return {"verdict": said, "run": ran(run)[0], **{side: classes(run, side) for side in SIDES}}


def to_tensorboard(run: Run, judgement: Judgement, page: Path) -> str:
    """Log into ``tensorboard/`` of the run directory; what TensorBoard can't show, the page, goes in as its place."""
    writer_module = _library("torch.utils.tensorboard", "tensorboard")
    directory = run.path / "tensorboard"
    if directory.is_symlink():
        raise TrackerUnusable(f"{directory} is a symbolic link, which is not followed; remove it")
    # What an earlier call of this command logged is hidden by the purge, not drawn twice.
    writer: Any = writer_module.SummaryWriter(str(directory), purge_step=0)
    for step, metrics in over_time(run):
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
    for name, value in final_metrics(run, judgement).items():
        writer.add_scalar(name, value, 0)
    lines = [f"{name}: {said}" for name, said in about(run, judgement).items()]
    lines += [*judgement.reasons, f"page: {page}"]
    writer.add_text("report", "\n".join(f"    {line(text, 1000)}" for text in lines))
    writer.close()
    return f"logged into {directory}: tensorboard --logdir {directory}"


def to_wandb(run: Run, judgement: Judgement, page: Path) -> str:
    """Log into a run of Weights & Biases of its own; the page is attached as an HTML panel."""
    wandb: Any = _library("wandb", "wandb")
    config = {**run.manifest, **about(run, judgement)}
    session = wandb.init(project="kv-lockstep", name=ran(run)[0], config=config)
    for step, metrics in over_time(run):
        session.log(metrics, step=step)
    session.summary.update({**final_metrics(run, judgement), **about(run, judgement)})
    session.log({"report": wandb.Html(page.read_text("utf-8"), inject=False)})
    session.finish()
    return f"logged into wandb, project kv-lockstep, run {ran(run)[0]}"


def to_mlflow(run: Run, judgement: Judgement, page: Path) -> str:
    """Log into a run of MLflow of its own; the page is attached as an artifact."""
    mlflow: Any = _library("mlflow", "mlflow")
    with mlflow.start_run(run_name=ran(run)[0]):
        mlflow.set_tags({f"kv_lockstep.{name}": line(said, 1000) for name, said in about(run, judgement).items()})
        for step, metrics in over_time(run):
            mlflow.log_metrics(metrics, step=step)
        mlflow.log_metrics(final_metrics(run, judgement))
        mlflow.log_artifact(str(page))
        where = mlflow.get_tracking_uri()
    return f"logged into MLflow at {where}, run {ran(run)[0]}"


TRACKERS: dict[str, Tracker] = {"tensorboard": to_tensorboard, "wandb": to_wandb, "mlflow": to_mlflow}


def _library(module: str, package: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as missing:
        raise TrackerUnusable(f"{package} is not installed here ({missing}): pip install {package}") from missing


def _named(name: str) -> str:
    """Return a metric's name without what a tracker refuses; a run directory may hold any name."""
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", name)[:200]
