"""Campaigns on a real Ray: the verdict of one without it, also where a node or a worker dies in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.read.campaign import read_campaign
from reports.record.campaign import Attempt, Campaign, Fate
from validator import cli

Printed = pytest.CaptureFixture[str]
SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}
STREAMS = ("--", "conformance", "--control", "new", "--ops", "50")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    made.second = made.add_node(**SMALL)
    yield made
    made.shutdown()


def campaign_of(out: Path) -> Campaign:
    (path,) = out.iterdir()
    return read_campaign(path)


def meanwhile(out: Path, when: Callable[[list[Attempt]], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the attempts of a campaign are so."""

    def wait() -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            if out.exists() and any(out.iterdir()) and when(campaign_of(out).attempts):
                act()
                return
            time.sleep(0.1)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def workers() -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and b"ray::run_attempt" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_the_verdict_is_that_of_a_campaign_without_ray(tmp_path: Path, capsys: Printed) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    words = ["--seeds", "1..2", "--policy", "smoke", "--", "train", "--config", "smoke"]
    assert cli.main(["campaign", "--out", str(tmp_path / "ray"), "--on", "ray", *words]) == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert "PASS by policy 'smoke'" in capsys.readouterr().out
    assert {one.host for one in campaign_of(tmp_path / "ray").attempts} == {os.uname().nodename}


def test_a_node_that_dies_in_the_middle_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    kill = meanwhile(
        tmp_path,
        lambda attempts: sum(one.fate is Fate.JUDGED for one in attempts) >= 2 and len(workers()) == 2,
        lambda: cluster.remove_node(cluster.second, allow_graceful=False),
    )
    code = cli.main(
        ["campaign", "--out", str(tmp_path), "--seeds", "1..8", "--on", "ray", "--at", cluster.address, *STREAMS]
    )
    kill.join()
    cluster.second = cluster.add_node(**SMALL)
    campaign = campaign_of(tmp_path)
    lost = [one for one in campaign.attempts if one.fate is Fate.LOST]
    assert code == 5  # streams alone are no run
    assert (campaign.missing(), campaign.problems) == ([], [])
    assert sorted(campaign.counting()) == list(range(8))
    assert len(lost) == 1
    assert len(campaign.attempts) == 9
    results = [path for one in campaign.counting().values() for path in (campaign.path / one.directory).glob("conf*")]
    assert len(results) == 8


def test_a_worker_that_is_killed_is_replaced_and_its_job_repeated(cluster: Any, tmp_path: Path) -> None:
    kill = meanwhile(tmp_path, lambda _: bool(workers()), lambda: os.kill(workers()[0], signal.SIGKILL))
    cli.main(["campaign", "--out", str(tmp_path), "--seeds", "1..2", "--on", "ray", "--at", cluster.address, *STREAMS])
    kill.join()
    campaign = campaign_of(tmp_path)
    assert campaign.missing() == []
    (lost,) = campaign.superseded()
    assert (lost.fate, lost.reason.partition(":")[0]) == (Fate.LOST, "WorkerCrashedError")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "1"], "no machine of the cluster can take a job of 1 CPU, 1 GPU; all together have 2 CPU, 0 GPU"),
        (["--cpus", "2"], "no machine of the cluster can take a job of 2 CPU"),
    ],
)
def test_a_job_that_no_machine_can_take_is_refused(
    cluster: Any, tmp_path: Path, capsys: Printed, words: list[str], said: str
) -> None:
    at = ["--on", "ray", "--at", cluster.address]
    assert cli.main(["campaign", "--out", str(tmp_path / "out"), *at, *words, *STREAMS]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
