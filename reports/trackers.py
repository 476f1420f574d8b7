"""A finished run into TensorBoard, Weights & Biases or MLflow, by whichever library is installed.

Never used by a training process: it runs after the run, from the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from reports.facts import SIDES, Judgement, ran
from reports.series import over_training
from validator.run import Run

Tracker = Callable[[Run, Judgement, Path], str]


class TrackerMissing(Exception):
    """A tracker's library is not installed: the command that installs it."""


def final_metrics(run: Run, judgement: Judgement) -> dict[str, float]:
    """Return what is logged once: counts, hit rates, latencies in nanoseconds, bytes, overhead."""
    totals = run.totals
    found: dict[str, float] = {"verdict/exit_code": float(getattr(judgement, "exit_code", -1))}
    found |= {f"lookups/{name}": float(count) for name, count in totals.outcomes().items()}
    found["divergences/total"] = float(totals.n_divergences)
    found |= {f"divergences/{fault}_at_fault": float(count) for fault, count in totals.divergences_by(2).items()}
    found |= {f"hit_rate/{side}": rate for side, rate in totals.hit_rate().items() if rate is not None}
    for name in sorted({name.partition(".")[2] for name in totals.latency_ns}):
        for side in SIDES:
            for mark in (0.5, 0.99):
                if (value := totals.latency(side, name, mark)) is not None:
                    found[f"latency_ns/{name}/{side}_p{mark * 100:.0f}"] = value
    found |= {f"bytes_held/{side}": float(count) for side, count in totals.bytes_held.items()}
    found["overhead/harness_s"] = totals.harness_ns / 1e9
    return found


def over_time(run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield what is logged step by step: the step and its metrics."""
    _, steps = over_training(run)
    for step in steps:
        metrics = {f"hit_rate/{side}": rate for side, rate in step.hit_rate.items() if rate is not None}
        metrics |= {"divergences/in_step": float(sum(step.divergences.values()))}
        yield int(step.at), metrics | {f"bytes_held/{side}": float(count) for side, count in step.bytes_held.items()}


def to_tensorboard(run: Run, judgement: Judgement, page: Path) -> str:
    """Log into ``tensorboard/`` of the run directory; the page's place and the reasons go into a text."""
    writer_module = _library("torch.utils.tensorboard", "tensorboard")
    directory = run.path / "tensorboard"
    writer: Any = writer_module.SummaryWriter(str(directory))
    for step, metrics in over_time(run):
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
    for name, value in final_metrics(run, judgement).items():
        writer.add_scalar(f"final/{name}", value, 0)
    reasons = "\n".join(f"    {reason}" for reason in judgement.reasons)
    writer.add_text("report", f"    {judgement.verdict.value}\n{reasons}\n    page: {page}")
    writer.close()
    return f"logged into {directory}: tensorboard --logdir {directory}"


def to_wandb(run: Run, judgement: Judgement, page: Path) -> str:
    """Log into a run of Weights & Biases of its own; the page is attached as an HTML panel."""
    wandb: Any = _library("wandb", "wandb")
    session = wandb.init(project="kv-lockstep", name=ran(run)[0], config=run.manifest)
    for step, metrics in over_time(run):
        session.log(metrics, step=step)
    session.summary.update({**final_metrics(run, judgement), "verdict": judgement.verdict.value})
    session.log({"report": wandb.Html(page.read_text("utf-8"), inject=False)})
    session.finish()
    return f"logged into wandb, run {ran(run)[0]}"


def to_mlflow(run: Run, judgement: Judgement, page: Path) -> str:
    """Log into a run of MLflow of its own; the page is attached as an artifact."""
    mlflow: Any = _library("mlflow", "mlflow")
    with mlflow.start_run(run_name=ran(run)[0]):
        mlflow.set_tags({"verdict": judgement.verdict.value, "run_id": ran(run)[0]})
        for step, metrics in over_time(run):
            mlflow.log_metrics(metrics, step=step)
        mlflow.log_metrics({f"final/{name}": value for name, value in final_metrics(run, judgement).items()})
        mlflow.log_artifact(str(page))
    return f"logged into MLflow, run {ran(run)[0]}"


TRACKERS: dict[str, Tracker] = {"tensorboard": to_tensorboard, "wandb": to_wandb, "mlflow": to_mlflow}


def _library(module: str, package: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as missing:
        raise TrackerMissing(f"{package} is not installed here ({missing}): pip install {package}") from missing
