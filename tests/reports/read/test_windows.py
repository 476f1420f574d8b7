"""Windows on disk: in short where an earlier one has the same names, read as they were written, fast or slowly."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import reports.columns
import reports.read.lines
from reports.columns import in_columns
from reports.read.lines import RankLines, read_lines
from reports.reader import read_run
from reports.record.records import Window
from reports.record.totals import fold
from reports.short import FULL_EVERY
from reports.typed import window_decoder
from reports.writer import RunWriter
from tests.reports.records_for_tests import MANIFEST, edit, window, write_run

TYPED, COMPILED = window_decoder(), reports.columns._windows
needs_msgspec = pytest.mark.skipif(TYPED is None, reason="msgspec is not installed")
needs_compiled = pytest.mark.skipif(COMPILED is None, reason="reports._windows was not compiled here")
WAYS = {"compiled": (COMPILED, TYPED), "typed": (None, TYPED), "slow": (None, None), "compiled alone": (COMPILED, None)}


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let windows be decoded in one of these ways from now on."""
    compiled, typed = WAYS[way]
    monkeypatch.setattr(reports.columns, "_windows", compiled)
    monkeypatch.setattr(reports.read.lines, "window_decoder", lambda: typed)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways to decode a window."""
    if (COMPILED is None and "compiled" in request.param) or (TYPED is None and request.param == "typed"):
        pytest.skip(f"{request.param}: what reads windows so, a C module or msgspec, is not installed here")
    take(request.param, monkeypatch)
    return str(request.param)


def bare(seq: int, **changes: Any) -> Window:
    """A window without histograms, as most of a long run are."""
    return window(seq, **{"latency_ns": {}, "coverage": {"overwrites": 5, "evictions": 8}, **changes})


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "rank-0000.jsonl").read_text().splitlines()]


def random_run(out: Path, generator: random.Random) -> tuple[list[Window], list[bytes]]:
    """Windows of pairs that take turns, with names that change, and their lines; events stand between."""
    pen = RunWriter.create(out, "r1", MANIFEST, evidence_limit_bytes=0)
    tops = (3, 2000, 2**62)
    names, seqs, windows = ["get.init", "get.wm", "set.recur"], {"collect": 0, "eval": 0}, []
    for number in range(generator.choice((5, 70, 400))):
        if generator.random() < 0.02:
            generator.shuffle(names)
            pen.event("reset")
        for cache in generator.choice((["collect"], ["collect", "eval"])):
            t_s = number * 1.5 + generator.random()  # of 15 to 17 digits, as those of a clock
            about: dict[str, Any] = {"cache": cache, "t_s": t_s, "train_iter": number // 2 - 1}
            least = int(generator.random() < 0.95)
            about["ops"] = {name: generator.randrange(least, generator.choice(tops)) for name in names}
            about["bytes_held"] = {"control": generator.randrange(1, 9), "candidate": 5}
            windows.append((window if generator.random() < 0.02 else bare)(seqs[cache], **about))
            pen.window(windows[-1])
            seqs[cache] += 1
    pen.close({})
    return windows, (pen.path / "rank-0000.jsonl").read_bytes().splitlines(keepends=True)


def damaged(lines: list[bytes], generator: random.Random, times: int) -> list[bytes]:
    """The lines with some of them changed, most so that they look sound."""
    lines = list(lines)
    for _ in range(times):
        at = generator.randrange(len(lines))
        other = generator.choice(lines)
        number = b"%d" % generator.choice((-2, -1, 0, 2**53, 2**63 - 1, 2**63, 10**30))
        lines[at : at + 1] = generator.choice(
            (
                [],
                [lines[at], other],
                [other],
                [lines[at][:-1] + other],
                [lines[at][: len(lines[at]) // 2] + b"\n", lines[at][len(lines[at]) // 2 :]],
                [lines[at].replace(b",", b",\n", 1)],
                [lines[at].replace(b",", b", ").replace(b":", b" :")],
                [lines[at].replace(b'"like"', b'"lik\\u0065"')],
                [lines[at].replace(b'"seq"', b'"sea"')],
                [lines[at].replace(b'"harness_ns"', b'"unknown"')],
                [lines[at].replace(b'"rank":0', b'"rank":0,"ops":{"get.init":1}')],
                [lines[at].replace(b'"rank":0', b'"rank":0,"ops":7')],
                [lines[at].replace(b'"rank":0', b'"rank":0,"\xff":7')],
                [lines[at][:-1] + generator.choice((b",", b"x", b"}", b"\t", b"null")) + b"\n"],
                [lines[at].replace(b'"rank":0', b'"rank":0,"seq":' + number)],
                [lines[at].replace(b'"rank":0', b'"rank":' + number)],
                [lines[at].replace(b'"rank":0', b'"rank":0,"counts":[]')],
                [lines[at].replace(b"[", b"[" + number + b",").replace(b",0", b"", 1)],
                [lines[at].replace(b"[", b"[[1],")],
                [re.sub(rb"(?<=[:,\[])\d+(?=[,\]])", number, lines[at], count=generator.randrange(1, 12))],
                [
                    lines[at].replace(
                        b"collect",
                        generator.choice(
                            (b"ev{l", b"ev\xc3\xa9l", b"ev\xffl", b"ev\xed\xa0\x80l", b"ev\tl", b"\\ud800", b"eval")
                        ),
                    )
                ],
            )
        )
    return lines


def all_of(lines: RankLines) -> tuple[Any, ...]:
    """Everything that can be told of a rank's file."""
    about = (lines.caches, lines.divergences, lines.events, lines.n_events, lines.about, lines.close)
    return lines.windows(), lines.timed, lines.problems(), lines.n_read, lines.is_sealed, lines.cut_off, about


class TestWritten:
    def test_in_short_where_the_names_are_those_of_an_earlier_one(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, windows=(bare(0), bare(1, ops={"get.init": 7})))

        full, short = (line for line in lines_of(path) if line["type"] == "window")

        assert full["ops"]["set.recur"] == 8
        assert short["like"] == 0
        assert short["counts"] == [7, 0, 0, 0, 0, 5, 8, 30, 40, 3_145_728, 1_572_864, 36, 4, 20, 10]
        assert not {"ops", "lookups", "coverage"} & short.keys()
        assert len(json.dumps(short)) < len(json.dumps(full)) / 2

    @pytest.mark.parametrize(
        "change",
        [
            {"ops": {"get.wm": 1}},
            {"divergences": {"value|rounding|candidate": 1}},
            {"latency_ns": {"control.get.init": {"97": 1}}},
            {"coverage": {"overwrites": 0}},
            {"lookups": {"init": {}}},
            {"bytes_held": {"control": 5}},
            {"bytes_held": {}},
            {"dropped": {"sampled": 2}},
        ],
    )
    def test_in_full_where_short_would_not_say_the_same(self, tmp_path: Path, change: dict[str, Any]) -> None:
        windows = (bare(0), bare(1, **change), bare(2))

        path = write_run(tmp_path, windows=windows)

        found = [line for line in lines_of(path) if line["type"] == "window"]
        assert ["like" in line for line in found][:2] == [False, False]
        assert read_run(path).windows == list(windows)

    def test_in_full_again_and_again(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, windows=tuple(map(bare, range(3 * FULL_EVERY))))

        full = [line["seq"] for line in lines_of(path) if line["type"] == "window" and "like" not in line]

        assert full == [0, FULL_EVERY, 2 * FULL_EVERY]

    def test_in_full_after_a_line_was_lost(self, tmp_path: Path) -> None:
        pen = RunWriter.create(tmp_path, "r1", MANIFEST, evidence_limit_bytes=0)
        pen.window(bare(0))
        assert not pen.window(None)  # type: ignore[arg-type]
        pen.window(bare(1))

        assert ["like" in line for line in lines_of(pen.path)] == [False, False]


class TestRead:
    @pytest.mark.usefixtures("way")
    def test_pairs_that_take_turns_come_back_as_they_were(self, tmp_path: Path) -> None:
        windows = [bare(seq, cache=name, envs={"0": seq}) for seq in range(1, 300) for name in ("collect", "eval")]
        windows = [bare(0, cache="eval"), bare(0, cache="collect", ops={"get.wm": 3}), *windows]

        run = read_run(write_run(tmp_path, windows=tuple(windows)))

        assert run.problems == []
        by_pair = sorted(windows, key=lambda one: (one.cache != "eval", one.seq))
        assert sorted(run.windows, key=lambda one: (one.cache != "eval", one.seq)) == by_pair

    @pytest.mark.usefixtures("way")
    @pytest.mark.parametrize("other", ["oval", "evaluate", "ev", 'ev"al\\é\n'])
    def test_pairs_alike_are_not_taken_for_each_other(self, tmp_path: Path, other: str) -> None:
        windows = [bare(seq, cache=name, t_s=seq + 0.5) for seq in range(40) for name in ("eval", other, other[:-1])]

        run = read_run(write_run(tmp_path, windows=tuple(windows)))

        assert run.problems == []
        assert sorted(run.windows, key=lambda one: (one.seq, one.cache)) == sorted(
            windows, key=lambda one: (one.seq, one.cache)
        )

    @pytest.mark.usefixtures("way")
    def test_very_many_are_added_up_and_nothing_is_lost(self, tmp_path: Path) -> None:
        windows = tuple(
            bare(seq, ops={"get.init": seq % 7 + 1}, bytes_held={"control": seq + 1, "candidate": 2}, t_s=seq / 2)
            if seq % 1000
            else window(seq, t_s=seq / 2)
            for seq in range(5000)
        )

        run = read_run(write_run(tmp_path, windows=windows))

        assert run.problems == []
        assert len(run.windows) <= 2048
        assert run.totals == fold(windows)
        assert run.windows[-1].train_iter == windows[-1].train_iter
        assert run.windows[-1].bytes_held == windows[-1].bytes_held

    @pytest.mark.usefixtures("way")
    def test_other_names_are_added_up_as_what_they_are(self, tmp_path: Path) -> None:
        windows = tuple(bare(seq, ops={"get.wm" if seq < 12 else "set.recur": seq + 1}) for seq in range(24))

        run = read_run(write_run(tmp_path, windows=windows), most_windows=1)

        assert [one.seq for one in run.windows] == [0, 16]
        assert run.totals == fold(windows)

    @pytest.mark.usefixtures("way")
    def test_progress_that_the_host_does_not_say_is_that_said_before(self, tmp_path: Path) -> None:
        windows = tuple(
            bare(seq, train_iter=seq if seq < 39 else -1, env_step=seq if seq < 38 else -1) for seq in range(40)
        )

        run = read_run(write_run(tmp_path, windows=windows), most_windows=1)

        assert [(one.seq, one.train_iter, one.env_step) for one in run.windows] == [(0, 31, 31), (32, 38, 37)]

    @pytest.mark.usefixtures("way")
    @pytest.mark.parametrize("at", [3, 126, 127, 128, 129, 130])
    def test_a_clock_that_goes_backwards_shows(self, tmp_path: Path, at: int) -> None:
        windows = tuple(bare(seq, t_s=seq - 1.5 * (seq >= at) + 1) for seq in range(140))

        run = read_run(write_run(tmp_path, windows=windows))

        said = f"from {windows[at - 1].t_s:g} s to {windows[at].t_s:g} s"
        assert run.problems == [f"rank-0000.jsonl: the clock of 'world_model' goes backwards, {said}"]

    @pytest.mark.usefixtures("way")
    def test_windows_after_the_close_do_not_count(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, windows=tuple(map(bare, range(30))))
        edit(path / "rank-0000.jsonl", lambda lines: [*lines[:20], lines[-1], *lines[20:-1]])

        lines = read_lines(path / "rank-0000.jsonl", 0)

        n = len(lines.windows())
        assert [one.seq for one in lines.windows()] == list(range(n))
        more = f"lines 22, 23, 24, 25, 26 and {30 - n - 5} more: after the close of the run; ignored"
        assert f"rank-0000.jsonl: {more}" in lines.problems()

    @pytest.mark.usefixtures("way")
    def test_gaps_are_named_in_the_order_of_the_pairs(self, tmp_path: Path) -> None:
        windows = [
            bare(seq, cache=name) for seq in range(40) for name in ("train", "eval") if (name, seq) != ("eval", 9)
        ]
        windows = [one for one in windows if (one.cache, one.seq) != ("train", 30)]

        problems = read_lines(write_run(tmp_path, windows=tuple(windows)) / "rank-0000.jsonl", 0).problems()

        assert [problem.split("of ")[1] for problem in problems] == [
            "'train' missing before its last",
            "'eval' missing before its last",
        ]

    @pytest.mark.usefixtures("way")
    def test_without_the_full_one_those_in_short_can_not_be_read(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, windows=tuple(map(bare, range(FULL_EVERY + 2))))
        edit(path / "rank-0000.jsonl", lambda lines: [*lines[:2], b"{}\n", *lines[3:]])

        run = read_run(path)

        assert [one.seq for one in run.windows] == [FULL_EVERY, FULL_EVERY + 1]
        assert run.problems[1] == (
            f"rank-0000.jsonl: lines 4, 5, 6, 7, 8 and {FULL_EVERY - 6} more: no window that can be understood without "
            "an earlier one, which can't be read"
        )
        assert f"rank-0000.jsonl: {FULL_EVERY} windows of 'world_model' missing before its last" in run.problems

    @pytest.mark.usefixtures("way")
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"counts": [1]}, "without an earlier one"),
            ({"like": 7}, "without an earlier one"),
            ({"like": None}, "None is no like"),
            ({"counts": [-1] * 15}, "-1 is no count"),
            ({"counts": [True] * 15}, "True is no count"),
            ({"counts": 7}, "not iterable"),
            ({"divergences": {"value|rounding|candidate": 1}}, "tables beside counts"),
            ({"seq": 1.0}, "1.0 is no seq"),
            ({"train_iter": -2}, "-2 is no train_iter"),
        ],
    )
    def test_one_in_short_that_can_not_be_added_is_no_window(
        self, tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        path = write_run(tmp_path, windows=(bare(0), bare(1), bare(2)))
        edit(
            path / "rank-0000.jsonl",
            lambda lines: [*lines[:3], json.dumps(json.loads(lines[3]) | change).encode() + b"\n", *lines[4:]],
        )

        run = read_run(path)

        assert said in run.problems[0]
        assert run.problems[0].startswith("rank-0000.jsonl: line 4: ")
        assert [one.seq for one in run.windows] == [0, 2]

    def test_all_ways_to_decode_agree_on_damaged_lines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = random.Random(1)
        group = {"value|rounding|candidate": 2}
        path = write_run(tmp_path, windows=(window(0, divergences=group), bare(1), bare(2), bare(3), window(4)))
        file = path / "rank-0000.jsonl"
        whole = file.read_bytes()
        pieces = (
            *(b"", b"-1", b"0", b"1.5", b"true", b"null", b'"', b"{}", b"[]", b"\n", b"9" * 20, b"\xff", b"\xc3\xa9"),
            *(b"\0", b"e5", b"-", b".", b",", b"\\", b"00", b"9" * 18, b" "),
        )
        for _ in range(600):
            damaged = bytearray(whole)
            start = generator.randrange(len(whole) - 20)
            damaged[start : start + generator.randrange(1, 20)] = generator.choice(pieces)
            file.write_bytes(damaged)
            found = []
            for way in WAYS:
                take(way, monkeypatch)
                found.append(all_of(read_lines(file, 0)))

            assert all(one == found[0] for one in found), bytes(damaged)

    def test_all_ways_agree_on_random_runs_wherever_batches_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator = random.Random(2)
        for number in range(20):
            written, whole = random_run(tmp_path / str(number), generator)
            for damages in (0, 1, 3, 20):
                data = b"".join(damaged(whole, generator, damages))
                if damages == 3:
                    data = data[: generator.randrange(len(data))]
                file = tmp_path / "rank-0000.jsonl"
                file.write_bytes(data)
                found = []
                for way, at_once in zip(WAYS, (generator.randrange(2, 600), 512, 1, 128), strict=True):
                    take(way, monkeypatch)
                    monkeypatch.setattr(reports.read.lines, "_BATCH", at_once)
                    found.append(all_of(read_lines(file, 0, most=8)))

                assert all(one == found[0] for one in found), data
                assert damages or (fold(found[0][0]) == fold(written) and found[0][2] == [])

    @needs_compiled
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"{", b" {"),
            (b'"type":', b'"type": '),
            (b'"t_s":1.5,', b'"t_s":01.5,'),
            (b'"t_s":1.5,', b'"t_s":1.5e0,'),
            (b'"t_s":1.5,', b'"t_s":1.,'),
            (b'"t_s":1.5,', b'"t_s":123456789012.5,'),
            (b'"t_s":1.5,', b'"t_s":-1.5,'),
            (b'"seq":1,', b'"seq":01,'),
            (b'"seq":1,', b'"seq":,'),
            (b'"seq":1,', b'"seq":-1,'),
            (b'"seq":1,', b'"seq":1' + b"0" * 18 + b","),
            (b'"train_iter":', b'"train_iter":-1'),
            (b'"train_iter":', b'"train_iter":-'),
            (b'"cache":"', b'"cache":"\t'),
            (b'"cache":"', b'"cache":"\\x'),
            (b'"cache":"', b'"cache":"\xc3\xa9'),
            (b'"cache":"', b'"cache":"\0'),
            (b"[", b"[,"),
            (b"[", b"[]["),
            (b"[", b"[[1],"),
            (b"[", b"[1.5,"),
            (b"],", b",],"),
            (b'"rank":0}', b'"rank":0,"ops":{}}'),
            (b'"rank":0}', b'"rank":}'),
            (b"}\n", b"} \n"),
            (b"}\n", b"}"),
            (b"}\n", b"}\n\0"),
            (b"}\n", b"}\nx"),
        ],
    )
    def test_what_is_no_window_in_short_to_the_letter_is_left_to_others(
        self, tmp_path: Path, old: bytes, new: bytes
    ) -> None:
        path = write_run(tmp_path, windows=(bare(0), bare(1, t_s=1.5)))
        raw = next(raw for raw in (path / "rank-0000.jsonl").read_bytes().splitlines(keepends=True) if b"like" in raw)
        assert old in raw
        changed = raw.replace(old, new, 1)

        tables, left = in_columns([raw, changed, raw, changed], 7)

        assert ([table.numbers for table in tables], left) == ([[7, 9]], [1, 3])

    @needs_compiled
    def test_all_sums_are_exact(self) -> None:
        line = '{"type":"window","t_s":1.0,"cache":"c","seq":%d,"harness_ns":2,"train_iter":3,"env_step":-1,"like":0,'
        line += '"counts":[%d,7,0],"rank":0}\n'
        raws = [(line % (seq, 10**18 - 1 - seq)).encode() for seq in range(12)]  # of these ten are more than 64 bits

        (table,), left = in_columns(raws, 1)

        assert left == []
        assert table.sums() == [12 * (10**18 - 1) - 66, 84, 0]
        assert table.part(3, 5).sums() == [2 * (10**18 - 1) - 7, 14, 0]

    @pytest.mark.parametrize(("join", "part"), [(True, False), (False, True), (True, True)])
    def test_a_window_is_one_line(self, tmp_path: Path, way: str, join: bool, part: bool) -> None:
        path = write_run(tmp_path, windows=[bare(seq) for seq in range(400)])  # some are read at once
        file = path / "rank-0000.jsonl"
        raws = file.read_bytes().splitlines(keepends=True)
        windows = [at for at, raw in enumerate(raws) if b'"counts"' in raw]
        if join:
            raws[windows[190]] = raws[windows[190]].rstrip()
        if part:
            raws[windows[195]] = raws[windows[195]].replace(b',"counts"', b',\n"counts"')
        file.write_bytes(b"".join(raws))

        lines = read_lines(file, 0)

        assert fold(lines.windows()).ops["get.init"] == (400 - 2 * join - part) * bare(0).ops["get.init"]
        assert "no JSON" in lines.problems()[0]

    @needs_msgspec
    def test_every_window_that_a_writer_writes_is_decoded_the_fast_way(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, windows=(window(0), window(1), bare(2), bare(3)))
        raws = (path / "rank-0000.jsonl").read_bytes().splitlines(keepends=True)

        assert TYPED is not None
        assert [found is not None for found in TYPED(raws)] == [b'"type":"window"' in raw for raw in raws]
