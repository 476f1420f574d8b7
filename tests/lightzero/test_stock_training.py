"""LightZero 0.2.0 as it comes from the registry, its stock script unedited, under ``kv-lockstep run``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reports.record.run import Run
from tests.lightzero.conftest import HERE, Done, KvLockstep, last_run, sizes, stock_script


class Counted(NamedTuple):
    """A run, and what was counted of it without kv-lockstep."""

    done: Done
    run: Run
    counts: dict[str, int]
    cwd: Path


def counted_run(kv_lockstep: KvLockstep, cwd: Path, env_steps: int, *script: str, **more: str) -> Counted:
    """Run a script with everything counted a second time."""
    flags = sizes(max_env_step=str(env_steps), exp_name="data/stock", **more)
    done = kv_lockstep(cwd, "run", *flags, "--", str(HERE / "counting.py"), "counts.json", *script)
    assert (cwd / "counts.json").exists(), done.stderr[-3000:]
    return Counted(
        done, last_run(cwd / "data" / "stock" / "validation"), json.loads((cwd / "counts.json").read_text()), cwd
    )


def equal_to_the_independent_counts(run: Run, counts: dict[str, int]) -> None:
    """Hold every figure of the report about lookups against what LightZero, and the dicts it asks, counted."""
    lookups = run.totals.lookups
    roots, nodes = counts["root_total_query_cnt"], counts["total_query_count"]
    assert {pool: sum(outcomes.values()) for pool, outcomes in lookups.items()} == {
        "init": roots,
        "hierarchical": nodes,
    }
    assert run.totals.n_lookups == roots + nodes
    # A lookup of the search asks the init dict, and the recurrent one for what that did not have.
    assert counts["init_dict_asked"] == roots + nodes
    assert counts["recur_dict_asked"] == nodes - counts["init_dict_answered_search"]
    assert counts["recur_dict_asked"] == run.totals.coverage["lookups_of_both_pools"]
    assert counts["by_the_way"] == 0
    assert lookups["init"]["both_hit_equal"] == counts["root_hit_cnt"]
    assert lookups["hierarchical"]["both_hit_equal"] == counts["hit_count"]
    rate = (counts["hit_count"] + counts["root_hit_cnt"]) / (roots + nodes)
    assert run.totals.hit_rate() == {"control": pytest.approx(rate), "candidate": pytest.approx(rate)}


@pytest.fixture(scope="module")
def stock(kv_lockstep: KvLockstep, tmp_path_factory: pytest.TempPathFactory) -> Counted:
    """400 env steps of the stock script: 9 lookups each, most in two dicts, and those of the evaluations."""
    return counted_run(kv_lockstep, tmp_path_factory.mktemp("stock"), 400, str(stock_script()))


def test_the_stock_training_passes_and_says_so(stock: Any) -> None:
    done, run, _, _ = stock

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "PASS: the candidate may ship" in done.stdout
    assert f"run directory: ./data/stock/validation/{run.manifest['run_id']}" in done.stdout
    assert run.divergences == []
    assert run.state == "complete"


def test_every_lookup_is_counted_and_every_hit(stock: Any) -> None:
    _, run, counts, _ = stock

    equal_to_the_independent_counts(run, counts)
    assert run.totals.n_lookups + run.totals.coverage["lookups_of_both_pools"] >= 5000
    assert run.totals.outcomes()["both_hit_equal"] == run.totals.n_lookups


def test_nothing_of_the_training_is_touched(stock: Any) -> None:
    _, run, counts, _ = stock

    assert counts["operations"] > sum(run.totals.ops.values()) > 6000
    assert counts["generators_moved"] == 0
    assert counts["batch_copies"] == run.totals.n_lookups
    assert counts["foreign_objects"] == 0


def test_the_life_cycle_reached_the_referee(stock: Any) -> None:
    _, run, _, _ = stock
    coverage = run.totals.coverage

    assert [line["cache"] for line in run.caches] == ["collect+eval"]  # the target's cache is never used here
    assert coverage["weight_updates"] >= 10
    assert coverage["episodes"] >= 10
    assert coverage["searches"] == coverage["clears_recur"] - coverage["clears_init_env"] // 2
    assert coverage["clears_init_env"] >= 2
    assert run.divergences == []
    assert {line["promises"]["episode_end_clears"] for line in run.caches} == {False}
    assert [event["detail"] for event in run.events if event["event"] == "roles"] == [
        "one model for learn, collect, eval; one model for target"
    ]


def test_the_manifest_names_what_ran(stock: Any) -> None:
    _, run, _, _ = stock

    assert run.manifest["versions"]["LightZero"] == "0.2.0"
    assert run.manifest["host"] == "lightzero"
    assert run.manifest["exp_name"] == "data/stock"
    assert run.manifest["overrides"]["policy.num_simulations"] == "8"
    assert run.caches[0]["policy"]["control"] == run.caches[0]["policy"]["candidate"] | {
        "kind": "legacy_dict",
        "live_results": True,
        "fixed_slots": True,
    }


def test_live_figures_stand_in_the_host_s_own_tensorboard(stock: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, run, _, cwd = stock
    events = EventAccumulator(str(cwd / "data/stock/log/serial"), size_guidance={"scalars": 0})
    events.Reload()

    shown = {
        tag: events.Scalars(f"KVLockstep/collect+eval/{tag}")
        for tag in (
            *(f"lookups/{outcome}" for outcome in run.totals.outcomes()),
            *("hit_rate/control", "hit_rate/candidate", "divergences", "overhead_share_of_wall"),
            *("latency_us_p50/control.set.recur", "latency_us_p50/candidate.get.hierarchical"),
        )
    }
    for outcome, count in run.totals.outcomes().items():
        assert sum(point.value for point in shown[f"lookups/{outcome}"]) == count
    assert {point.value for point in shown["hit_rate/candidate"]} == {1.0}
    assert sum(point.value for point in shown["divergences"]) == 0
    assert all(0 < point.value < 1 for point in shown["overhead_share_of_wall"])
    assert all(point.value > 0 for point in shown["latency_us_p50/control.set.recur"])
    assert shown["divergences"][-1].step >= 400


def test_a_world_model_that_overrides_the_construction_is_watched_whole(
    kv_lockstep: KvLockstep, tmp_path: Path
) -> None:
    done, run, counts, _ = counted_run(kv_lockstep, tmp_path, 60, str(HERE / "overriding.py"), str(stock_script()))

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    equal_to_the_independent_counts(run, counts)
    assert run.divergences == []
    assert counts["generators_moved"] == counts["foreign_objects"] == 0
    assert run.caches[0]["policy"]["control"]["capacities"] == {"init": 3, "recur": 32, "wm": 2}
    assert run.caches[0]["policy"]["candidate"]["capacities"] == {"init": 3, "recur": 32, "wm": 2}
    assert [line["cache"] for line in run.caches] == ["collect+eval"]


def test_compared_late_as_on_a_device_the_training_passes_too(kv_lockstep: KvLockstep, tmp_path: Path) -> None:
    late = {"cache_validation__deferred": "always"}
    done, run, counts, _ = counted_run(kv_lockstep, tmp_path, 60, str(stock_script()), **late)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    equal_to_the_independent_counts(run, counts)
    assert run.divergences == []
    assert run.totals.coverage["lookups compared late"] == run.totals.n_lookups > 500
    assert counts["generators_moved"] == counts["foreign_objects"] == 0
