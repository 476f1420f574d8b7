"""The terminal report: the facts in the order of the questions, at any width, and nothing that data could do."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from reports.content.groups import grouped
from reports.formats.terminal.run import first_lines, render
from reports.reader import read_run
from reports.record.records import Divergence
from reports.record.run import Run
from reports.record.totals import fold
from reports.record.words import Cause, Dimension, Fault, Outcome, Verdict
from tests.reports.records_for_tests import divergence, leaf, window, write_run

WIDTHS = (80, 200)
STALE = "value|stale version of this key|candidate"
LEAK = "presence|duplicate-key slot leak|control"
HOSTILE = "[red]x[/red] [link=file:///etc/passwd]y[/link] \x1b[31m\x1b]0;t\x07 \u202egnp \u200b\ud800 :smile: [/] [bold"


@dataclass
class Demand:
    demanded: str
    found: str
    verdict: Verdict
    where: str = ""
    remedy: str = ""


@dataclass
class Judged:
    verdict: Verdict = Verdict.FAIL
    reasons: tuple[str, ...] = ("no divergence: found 2",)
    demands: tuple[Demand, ...] = (
        Demand("at least 1 run", "1", Verdict.PASS),
        Demand("weight updates", "none of 3", Verdict.INCONCLUSIVE),
        Demand("no divergence", "2", Verdict.FAIL),
    )


def printed(run: Run, judged: Judged | None = None, width: int = 80, **console: Any) -> str:
    out = io.StringIO()
    render(run, judged or Judged(), Console(file=out, width=width, highlight=False, **console))
    return out.getvalue()


def flat(text: str) -> str:
    """Undo wrapping."""
    return " ".join(text.split())


def run_of(windows: tuple[Any, ...] = (), divergences: tuple[Divergence, ...] = (), **fields: Any) -> Run:
    """Make a run in memory, for records that no writer would write."""
    about: dict[str, Any] = {
        "caches": [{"cache": "world_model", "control": "a.Old", "candidate": "b.New", "primary": "control"}],
        "manifest": {"run_id": "r1", "world_size": 1},
    }
    run = Run(Path("runs/r1"), "complete", **about | fields)
    run.windows, run.divergences, run.totals = list(windows), list(divergences), fold(windows)
    run.n_events = dict(Counter(event["event"] for event in run.events))
    return run


@pytest.fixture
def failing(tmp_path: Path) -> Run:
    lookups = {"hierarchical": {"both_hit_equal": 3_600_000, "both_hit_differ": 2, "candidate_only": 1, "both_miss": 4}}
    leaked = divergence(
        id=1,
        operation="get.recur",
        pool="recur",
        env_id=None,
        outcome=Outcome.CANDIDATE_ONLY,
        dimension=Dimension.PRESENCE,
        cause=Cause.SLOT_LEAK,
        fault=Fault.CONTROL,
        explanation="The control lost a live key.",
        leaves=(),
    )
    windows = (window(0, lookups=lookups, divergences={STALE: 2, LEAK: 1}), window(1))
    path = write_run(
        tmp_path, windows=windows, divergences=(leaked, divergence()), validation={"rtol": None, "atol": None}
    )
    return read_run(path)


class TestLines:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_none_ends_in_blanks(self, failing: Run, width: int) -> None:
        assert [line for line in printed(failing, width=width).splitlines() if line != line.rstrip()] == []

    def test_what_to_do_stands_beside_a_demand_that_is_not_met(self, failing: Run) -> None:
        missing = Demand("evictions: at least 1", "0", Verdict.INCONCLUSIVE, remedy="pools must fill")
        out = io.StringIO()
        render(failing, Judged(demands=(missing,)), Console(file=out, width=120))

        assert "evictions: at least 1  0; pools must fill" in out.getvalue()


class TestOrder:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_questions_are_answered_in_the_order_they_are_asked(self, failing: Run, width: int) -> None:
        text = printed(failing, width=width)

        asked = ["FAIL: the candidate must not ship", "no divergence: found 2", "What differed, and whose fault"]
        asked += ["Show me: divergence #0", "Was enough exercised", "What it costs or gains", "Provenance"]
        places = [text.index(question) for question in asked]
        assert places == sorted(places)
        assert text.startswith("FAIL")

    @pytest.mark.parametrize(
        ("verdict", "said"),
        [
            (Verdict.PASS, "PASS: the candidate may ship"),
            (Verdict.FAIL, "FAIL: the candidate must not ship"),
            (Verdict.INCONCLUSIVE, "INCONCLUSIVE: not enough evidence to ship"),
        ],
    )
    def test_first_lines_are_verdict_reasons_and_who_was_compared(
        self, failing: Run, verdict: Verdict, said: str
    ) -> None:
        out = io.StringIO()
        first_lines(failing, Judged(verdict, ("because",)), Console(file=out, width=80))

        lines = [line.strip() for line in out.getvalue().splitlines()]
        assert lines[0] == said
        assert lines[1] == "• because"
        assert "control    shadow.legacy.LegacyKVCache (primary: its answers went to the host)" in lines
        assert "candidate  shadow.manager.KVCacheManager" in lines
        assert "What differed" not in out.getvalue()


class TestFacts:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_everything_a_bug_report_needs_is_there(self, failing: Run, width: int) -> None:
        text = flat(printed(failing, width=width))

        for fact in (
            "3 divergences in 3,600,077 lookups",
            "candidate stale version of this key value 2 #0",
            "control duplicate-key slot leak presence 1 #1",
            divergence().explanation,
            "op 1,041 · get.init · cache world_model pool init · env 3 · key 00ab54a98ceb1f0a",
            "12.5 s · train iter 120 · env step 4,800 · episode 7 · weights 119",
            "L1 K bits 12/96 0.731 [0,1,4,7] 12.5",
            "0/3 0/0",
            "float32 (1, 2, 6, 8) cpu valid 6",
            "history oldest first • #1009",
            "failed no divergence 2 missing weight updates none of 3 ok at least 1 run 1",
            "exercised overwrites 10, evictions 16, ring wraps 2",
            "never clears init",
            "dropped nothing",
            "tolerance none: bits must be equal",
            "control 3.0 MiB, candidate 1.5 MiB; candidate to control 0.50x",
            "80 ms of 10.0 s went into validating (0.80%)",
            "commit c721e6a0c0ff, with uncommitted changes",
            "torch 2.13.0",
        ):
            assert fact in text

    def test_outcomes_are_exact_where_there_is_room_and_single_ones_always(self, failing: Run) -> None:
        narrow, wide = (flat(printed(failing, width=width)) for width in WIDTHS)

        assert "hierarchical 3.6 M 2 0 1 4 0 >99.99% >99.99%" in narrow
        assert "hierarchical 3,600,000 2 0 1 4 0 >99.99% >99.99%" in wide

    def test_latency_is_in_microseconds_by_side_and_operation(self, failing: Run) -> None:
        run = failing.totals
        expected = [
            run.latency(side, "get.init", mark) for side in ("control", "candidate") for mark in (0.5, 0.9, 0.99)
        ]
        assert [round(value or 0) for value in expected] == [19_456, 59_392, 59_392, 10_752, 10_752, 344_064]

        assert "get.init 19.5 59.4 59.4 10.8 10.8 344 0.55x" in flat(printed(failing))

    def test_the_candidates_defects_come_before_the_controls(self) -> None:
        run = run_of((window(0, divergences={LEAK: 500, STALE: 2}),), (divergence(),))

        assert [(group.fault, group.count, group.n_written) for group in grouped(run)] == [
            ("candidate", 2, 1),
            ("control", 500, 0),
        ]

    def test_a_long_history_is_cut_at_its_old_end(self) -> None:
        history = tuple(f"#{number} get.init" for number in range(100, 150))

        text = printed(run_of((window(),), (divergence(history=history),)))

        assert "oldest first, after 30 that are not shown" in text
        assert "#129 get.init" not in text
        assert "#130 get.init" in text
        assert "#149 get.init" in text

    @pytest.mark.parametrize("width", WIDTHS)
    def test_no_line_is_longer_than_the_terminal(self, failing: Run, width: int) -> None:
        for run in (failing, run_of((window(0, divergences={STALE: 10**9}),), (divergence(),))):
            assert max(cell_len(line.rstrip()) for line in printed(run, width=width).splitlines()) <= width

    @pytest.mark.parametrize("width", [40, 80])
    def test_a_number_is_never_cut(self, failing: Run, width: int) -> None:
        slow = {f"{side}.get.hierarchical": {"330": 1} for side in ("control", "candidate")}  # three hours

        text = printed(run_of((window(0, latency_ns=slow),)), width=width)

        assert "get.hierarchical" + 6 * " 11,544,872,092" + " 1.00x" in flat(text)
        assert "hierarchical 3.6 M 2 0 1 4 0 >99.99% >99.99%" in flat(printed(failing, width=width))

    def test_a_tolerance_shows(self) -> None:
        text = printed(run_of((window(),), manifest={"validation": {"rtol": 1e-5, "atol": 0.1, "audit_share": 0.05}}))

        assert "rtol 1e-05, atol 0.1: close is equal" in text
        assert "audit share 0.05" in text

    def test_what_was_dropped_shows(self) -> None:
        assert "dropped    evidence limit 7" in printed(run_of((window(dropped={"evidence_limit": 7, "none": 0}),)))

    def test_events_show_once_with_their_first_detail(self) -> None:
        events = [{"event": "harness_fault", "detail": f"KeyError: {number}"} for number in range(3)]

        text = printed(run_of((window(),), events=events))

        assert "harness fault (3): KeyError: 0" in text
        assert "KeyError: 1" not in text

    def test_errors_of_both_sides_show(self) -> None:
        raised = divergence(control_error="TypeError: None", candidate_error="IndexError: 9\nin line 3", leaves=())

        text = flat(printed(run_of((window(),), (raised,))))

        assert "control raised TypeError: None candidate raised IndexError: 9 in line 3" in text

    def test_evidence_or_why_there_is_none(self) -> None:
        kept = printed(run_of((window(),), (divergence(evidence="evidence/r0-d0.safetensors", evidence_note="cut"),)))
        lost = printed(run_of((window(),), (divergence(evidence_note="not kept: limit"),)))

        assert "evidence   evidence/r0-d0.safetensors\n             cut" in "\n".join(
            map(str.rstrip, kept.splitlines())
        )
        assert "evidence   none: not kept: limit" in lost

    def test_sides_of_another_shape_are_described_apart(self) -> None:
        off = leaf(rung="shape", candidate="float32 (1, 2, 5, 8) cpu valid 5", n_elements=0, n_mismatched=0)

        text = flat(printed(run_of((window(),), (divergence(leaves=(off, leaf(layer=2))),))))

        assert "L1 V shape not compared" in text
        assert "control L1 V: float32 (1, 2, 6, 8) cpu valid 6 candidate L1 V: float32 (1, 2, 5, 8) cpu valid 5" in text
        assert "both L2 V: float32 (1, 2, 6, 8) cpu valid 6" in text


class TestHonesty:
    def test_a_divergence_whose_window_is_lost_shows(self) -> None:
        text = flat(printed(run_of((), (divergence(),))))

        assert "1 divergence in 0 lookups" in text
        assert "1 of them not in the counts above: that window was lost" in text

    def test_a_difference_that_nothing_explains_shows(self) -> None:
        text = printed(run_of((window(0, lookups={"init": {"both_hit_equal": 5, "control_only": 2}}),)))

        assert "2 lookups differed without a divergence to explain it" in text

    def test_a_repeat_that_was_only_counted_shows(self) -> None:
        assert "value              9  not kept" in printed(run_of((window(0, divergences={STALE: 9}),)))

    def test_an_empty_run_is_shown_as_one(self) -> None:
        text = printed(run_of(caches=[], manifest={}), Judged(Verdict.INCONCLUSIVE, (), ()))

        assert "0 divergences in 0 lookups" in text
        assert "nothing was shadowed" in text
        assert "exercised  nothing" in text
        assert "tolerance  not recorded" in text
        assert text.count("not measured") == 2

    def test_problems_of_the_record_show(self, tmp_path: Path) -> None:
        path = write_run(tmp_path)
        (path / "summary.json").unlink()

        text = printed(read_run(path))

        assert "r1, crashed, 10.0 s" in text
        assert "1 problem of the record itself" in text
        assert "summary.json is missing or unreadable" in text

    def test_pairs_are_told_apart(self) -> None:
        caches = [
            {"cache": "learn", "control": "a.Old", "candidate": "b.New", "primary": "control"},
            {"cache": "target", "control": "a.Old", "candidate": "c.Newer"},
        ]

        text = flat(printed(run_of((window(),), caches=caches)))

        assert "candidate learn: b.New; target: c.Newer" in text


class TestHostileInput:
    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("terminal", [True, False])
    def test_data_is_shown_as_text_and_does_nothing(self, tmp_path: Path, width: int, terminal: bool) -> None:
        long = HOSTILE + "A" * 10_000
        bad = divergence(
            cache=long,
            operation=long,
            pool=long,
            key=long,
            explanation=long,
            candidate_error=f"E: {long}",
            history=(long,) * 50,
            leaves=tuple(
                leaf(layer=number, control=long, candidate=HOSTILE, path=long * (number % 2)) for number in range(40)
            ),
        )
        windows = (
            window(
                cache=long,
                ops={long: 1},
                lookups={long: {"both_miss": 1}},
                divergences={f"{long}|{long}|{long}": 1, STALE: 1},
                coverage={long: 1},
                envs={long: 1},
                dropped={long: 1},
                latency_ns={f"control.{long}": {"40": 1}},
            ),
        )
        manifest = dict.fromkeys(("seed", "device", "platform", "hostname", "created", "host"), HOSTILE)
        manifest |= {"versions": {HOSTILE: HOSTILE}, "git": {"commit": HOSTILE}, "switches": {HOSTILE: HOSTILE}}
        path = write_run(tmp_path, windows=windows, divergences=(bad,), **manifest)
        run = read_run(path)
        run.caches[0] |= {"control": long, "candidate": long}
        run.events.append({"event": long, "detail": long})
        run.problems.append(long)
        judged = Judged(Verdict.FAIL, (long,), (Demand(long, long, Verdict.FAIL, long),))

        text = printed(run, judged, width, force_terminal=terminal, color_system="truecolor" if terminal else None)

        assert "[red]x[/red]" in text
        assert "[bold" in text
        assert ":smile:" in text
        assert "more characters]" in text
        assert "\x1b[31m\x1b]0;" not in text
        assert not set("\x07\u202e\u200b\ud800") & set(text)
        assert "\\u202e" in text
        assert ("\x1b" in text) == terminal
        assert "]8;" not in text
        assert len(text) < (150_000 if width == 200 else 100_000)
        text.encode()

    @pytest.mark.parametrize(
        "manifest",
        [
            {"versions": 7, "git": [1], "switches": "on", "validation": "x", "world_size": -3, "created": float("nan")},
            {"versions": {}, "git": {}, "switches": {}, "validation": {}, "world_size": True, "created": 10**30},
            {"run_id": None, "created": {"a": 1}, "validation": {"rtol": "x"}, "world_size": 10**400},
        ],
    )
    def test_a_manifest_of_other_types_is_shown_as_far_as_it_goes(self, manifest: dict[str, Any]) -> None:
        assert "Provenance" in printed(run_of((window(),), manifest=manifest))


class TestConsole:
    def test_no_colour_where_there_is_no_terminal(self, failing: Run) -> None:
        assert "\x1b" not in printed(failing)
        assert "\x1b[1;31mFAIL" in printed(failing, force_terminal=True, color_system="standard")

    def test_a_terminal_that_knows_ascii_only(self, failing: Run) -> None:
        raw = io.BytesIO()
        failing = replace(failing, divergences=[divergence(explanation="Schlüssel → weg")])
        with io.TextIOWrapper(raw, encoding="ascii") as file:
            render(failing, Judged(), Console(file=file, width=80))
            file.flush()
            text = raw.getvalue().decode("ascii")

        assert "latency in us" in text
        assert "Schl\\xfcssel \\u2192 weg" in text
