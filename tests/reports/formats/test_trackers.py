"""Trackers: what TensorBoard, W&B and MLflow hold after a run was logged, read back with their own readers."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from reports.formats import trackers
from reports.reader import read_run
from reports.record.run import Run
from tests.reports.records_for_tests import CACHE, divergence, window, write_run
from validator.commands.report import write_page
from validator.gate.judgement import Judgement, judge

STALE = "value|stale version of this key|candidate"
VERDICT = "FAIL: the candidate must not ship"
Logged = tuple[Run, Judgement, Path]
# The libraries warn of what their own dependencies deprecate.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    """A run of 8 windows with one divergence, the judgement on it, and its page."""
    windows = tuple(window(seq, divergences={STALE: 1} if seq == 3 else {}) for seq in range(8))
    run = read_run(write_run(tmp_path / "runs", windows=windows, divergences=(divergence(),)))
    run.totals.latency_ns["control.get.<b>ü</b>"] = {"90": 4}  # a name that trackers refuse
    judgement = judge([run])
    return run, judgement, write_page(run, judgement)


def library(module: str) -> Any:
    return pytest.importorskip(module, reason=f"{module} is not installed")


class TestTensorBoard:
    def logged_scalars(self, directory: Path) -> Any:
        accumulator = library("tensorboard.backend.event_processing.event_accumulator")
        events = accumulator.EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
        return events.Reload()

    def test_holds_curves_figures_and_the_verdict(self, logged: Logged) -> None:
        library("tensorboard")
        run, judgement, page = logged

        said = trackers.track("tensorboard", run, judgement, page)

        events = self.logged_scalars(run.path / "tensorboard")
        assert said.endswith(f"tensorboard --logdir {run.path / 'tensorboard'}")
        diverged = [(point.step, point.value) for point in events.Scalars("divergences/in_step")]
        assert diverged == [(step, float(step == 123)) for step in range(120, 128)]
        assert events.Scalars("final/divergences/total")[0].value == 1
        assert events.Scalars("final/latency_ns/get._b___/b_/control_p50")[0].value > 0
        text = events.Tensors("report/text_summary")[0].tensor_proto.string_val[0].decode()
        assert VERDICT in text
        assert CACHE["candidate"] in text
        assert str(page) in text

    def test_logged_twice_is_drawn_once(self, logged: Logged) -> None:
        library("tensorboard")
        for _ in range(2):
            trackers.track("tensorboard", *logged)

        assert len(self.logged_scalars(logged[0].path / "tensorboard").Scalars("hit_rate/control")) == 8


class TestMlflow:
    def test_holds_curves_figures_the_verdict_and_the_page(
        self, logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
        mlflow = library("mlflow")
        mlflow.set_tracking_uri((tmp_path / "store").as_uri())
        run, judgement, page = logged

        trackers.track("mlflow", run, judgement, page)

        client = mlflow.MlflowClient()
        (found,) = client.search_runs(["0"])
        assert found.data.tags["kv_lockstep.verdict"] == VERDICT
        assert found.data.tags["kv_lockstep.control"].startswith(CACHE["control"])
        assert found.data.metrics["final/divergences/total"] == 1
        curve = client.get_metric_history(found.info.run_id, "divergences/in_step")
        assert sorted((point.step, point.value) for point in curve) == [(s, float(s == 123)) for s in range(120, 128)]
        artifact = client.download_artifacts(found.info.run_id, "report.html", str(tmp_path))
        assert Path(artifact).read_bytes() == page.read_bytes()


class TestWandb:
    def test_holds_curves_figures_the_verdict_and_the_page(
        self, logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_DIR", str(tmp_path))
        monkeypatch.setenv("WANDB_SILENT", "true")
        wandb = library("wandb")
        run, judgement, page = logged

        trackers.track("wandb", run, judgement, page)
        wandb.teardown()  # as at the end of the process: its last bytes are on disk then

        # Until it is synchronised W&B keeps records in a format of its own, with names and JSON in plain sight.
        (directory,) = (tmp_path / "wandb").glob("offline-run-*")
        kept = next(directory.glob("*.wandb")).read_bytes()
        for said in (VERDICT, CACHE["candidate"], "divergences/in_step", "final/divergences/total", run.path.name):
            assert said.encode() in kept
        (attached,) = directory.glob("files/media/html/report_*.html")
        assert attached.read_bytes() == page.read_bytes()


class TestRefused:
    @pytest.mark.parametrize("name", trackers.TRACKERS)
    def test_a_missing_library_answers_with_the_command(
        self, name: str, logged: Logged, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("torch.utils.tensorboard", "tensorboard", "wandb", "mlflow"):
            monkeypatch.setitem(sys.modules, module, None)

        with pytest.raises(trackers.TrackerUnusable, match=rf"{name} is not installed here .*: pip install {name}$"):
            trackers.track(name, *logged)

    def test_what_the_library_says_is_passed_on(self, logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
        def init(**about: object) -> None:
            raise RuntimeError("No API key configured. Use `wandb login` to log in.")

        refusing = types.ModuleType("wandb")
        refusing.__dict__["init"] = init
        monkeypatch.setitem(sys.modules, "wandb", refusing)

        with pytest.raises(
            trackers.TrackerUnusable, match=r"wandb did not take the run: RuntimeError: No API key .*; mend that"
        ):
            trackers.track("wandb", *logged)
