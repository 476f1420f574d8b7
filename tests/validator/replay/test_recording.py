"""What is recorded of a pair: every operation, in 32 bytes, whatever becomes of the disk or the process."""

from __future__ import annotations

import errno
import gc
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

from reports.disk.own_file import OwnFile
from reports.errors import RunUnreadable
from reports.read.trace import find_traces, read_trace
from reports.reader import read_run
from reports.record.trace import RECORD, Trace
from shadow.entries import cloned
from shadow.entry import leaves
from shadow.manager import KVCacheManager
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.sessions import open_session
from tests.validator.trials import legacy, manager
from validator.cli import main
from validator.entries.digest import digest
from validator.proof.selftest import TERRAIN
from validator.proof.stream import EntrySpec, Player, Step, steps
from validator.replay.keeping import Keeping
from validator.replay.program import Program
from validator.replay.recording import Recording


def recorded(path: Path) -> Trace:
    return read_trace(find_traces(path)[0])


def played(tmp_path: Path, stream: list[Step], **settings: Any) -> Path:
    with open_session(tmp_path, overhead_budget=0.0, **settings) as lockstep:
        cache = lockstep.shadow(control=manager(envs=3), candidate=manager(envs=3))
        Player(cache, cache.observer).play_all(stream)
    return lockstep.run_dir


@guards(
    "validator/observe/pair.py",
    "self.note((self.case.now, life(verb), env_id, Moment(sink.train_iter, sink.env_step), None))",
    "pass",
)
def test_what_was_played_can_be_read_back_step_by_step(tmp_path: Path) -> None:
    stream = list(steps(0, 300, TERRAIN))
    path = played(tmp_path, stream)
    trace = recorded(path)
    assert trace.problems == []
    assert trace.whole
    found = list(Program(trace).steps())
    assert [step._replace(entry=None) for step in found] == [step._replace(entry=None) for step in stream]
    digests: dict[Any, Any] = {}
    for was, now in zip(stream, found, strict=True):
        assert (was.entry is None) == (now.entry is None)
        if was.entry is not None and was.entry.tokens > 0:
            assert digests.setdefault(was.entry, now.entry) == now.entry  # the same entry, the same digest
    assert len(set(digests.values())) == len(digests)  # and another one, another
    assert len(trace.records) * RECORD.itemsize == sum(f.stat().st_size for f in path.rglob("*.ops"))
    assert RECORD.itemsize <= 40


@pytest.mark.parametrize("key", [0, 1, (1 << 64) - 1, -1, -(1 << 63), 1 << 64, True])
def test_keys_come_back_as_they_were(tmp_path: Path, key: int) -> None:
    path = played(tmp_path, [Step("get_recur_cache", None, key)])
    (step,) = Program(recorded(path)).steps()
    assert step.key == key
    assert ("trace_keys" in read_run(path).n_events) == (key == 1 << 64)


@guards("validator/observe/keyed_pair.py", "None if pending is None else pending.digest", "pending")
def test_no_entry_is_held_by_what_is_recorded(tmp_path: Path) -> None:
    with open_session(tmp_path, window_s=3600.0) as lockstep:
        cache = lockstep.shadow(control=manager(), candidate=manager())
        entry = make_entry(1)
        held = weakref.ref(entry)
        cache.set_recur_cache(1, entry)
        cache.observer.case.referee.given.clear()  # of what was given lately, addresses are remembered elsewhere
        del entry
        gc.collect()
        assert held() is None or all(held() is not part for row in _rows(cache) for part in row)


def _rows(cache: Any) -> list[Any]:
    rows: list[Any] = cache.observer.note.__self__
    assert rows
    return [(*row, *(row[4] if row[4] is not None else ())) for row in rows]


def test_rows_are_written_in_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written = []
    own = OwnFile.extend
    monkeypatch.setattr(OwnFile, "extend", lambda self, data: (written.append(self), own(self, data))[1])
    played(tmp_path, list(steps(0, 300, TERRAIN)), window_s=3600.0, window_ops=10**9)
    assert len([file for file in written if str(file._path).endswith(".ops")]) <= 15


@guards("reports/read/trace.py", "data[: len(data) - len(data) % RECORD.itemsize]", "data")
def test_what_a_killed_process_leaves_is_read_up_to_its_last_whole_record(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 100, TERRAIN)))
    whole = recorded(path)
    (segment,) = path.rglob("*.ops")
    index = find_traces(path)[0]
    segment.write_bytes(segment.read_bytes()[:-7])
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[:-2]) + b'{"lay')
    torn = recorded(path)
    assert torn.problems == []
    assert not torn.whole
    assert torn.records.tolist() == whole.records[:-1].tolist()


@guards("reports/disk/trace.py", '        self.ended = f"{said:.200}"', "        raise problem")
def test_a_full_disk_ends_the_trace_and_not_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = OwnFile.extend

    def full(self: OwnFile, data: bytes) -> None:
        if str(self._path).endswith(".ops"):
            raise OSError(errno.ENOSPC, "No space left on device")
        own(self, data)

    monkeypatch.setattr(OwnFile, "extend", full)
    run = read_run(played(tmp_path, list(steps(0, 50, TERRAIN))))
    assert (run.state, run.problems, run.lost) == ("complete", [], "")
    (said,) = [event["detail"] for event in run.events if event["event"] == "trace_ended"]
    assert "No space left on device" in said
    assert recorded(run.path).ended == "No space left on device"


@guards("reports/disk/trace.py", "and self._whole:", "and not self._whole:")
def test_where_there_is_no_room_the_oldest_operations_give_way_and_the_report_says_so(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 400, TERRAIN)), record_mb=0.008, window_ops=50)
    assert sum(file.stat().st_size for file in path.rglob("*.ops")) <= 8_000
    trace = recorded(path)
    assert trace.problems == []
    assert trace.first > 0
    reaches_back = int(trace.records["op"][0])
    (said,) = [event["detail"] for event in read_run(path).events if event["event"] == "trace_cut"]
    assert said.endswith(f"the trace reaches back to operation {reaches_back}")


def test_off_records_nothing(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 20, TERRAIN)), record="off")
    with pytest.raises(RunUnreadable, match="holds no trace"):
        find_traces(path)


@guards("reports/read/trace.py", 'about.get("digest") != digest.hexdigest()', "False")
def test_an_edited_segment_is_told(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 50, TERRAIN)))
    (segment,) = path.rglob("*.ops")
    data = bytearray(segment.read_bytes())
    data[24] ^= 1
    segment.write_bytes(data)
    assert "changed after it was written" in recorded(path).problems[0]


@guards("reports/read/trace.py", 'if not is_sealed(data.rstrip(b"\\n"), before):', "if False:")
def test_an_edited_index_is_told(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 50, TERRAIN)))
    index = find_traces(path)[0]
    index.write_bytes(index.read_bytes().replace(b'"float32"', b'"float64"', 1))
    assert "index was changed" in recorded(path).problems[0]


def test_records_that_name_what_the_index_does_not_hold_are_not_read(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 50, TERRAIN)))
    (segment,) = path.rglob("*.ops")
    data = bytearray(segment.read_bytes())
    data[10 * RECORD.itemsize] = 200  # a verb that there is not
    segment.write_bytes(data)
    trace = recorded(path)
    assert len(trace.records) == 10
    assert "record 10 names what the index does not hold" in trace.problems[-1]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda data: data.replace(b'"trace":1', b'"trace":2', 1), "format 2, and this version reads 1"),
        (lambda data: b"hello\n", "is no trace"),
        (lambda data: b"", "is no trace"),
    ],
)
def test_foreign_and_newer_traces_are_refused_in_a_sentence(tmp_path: Path, edit: Any, said: str) -> None:
    path = played(tmp_path, list(steps(0, 5, TERRAIN)))
    index = find_traces(path)[0]
    index.write_bytes(edit(index.read_bytes()))
    with pytest.raises(RunUnreadable, match=said):
        read_trace(index)


def test_a_link_out_of_the_run_is_not_followed(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 5, TERRAIN)))
    (path / "trace").rename(tmp_path / "elsewhere")
    (path / "trace").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunUnreadable, match="holds no trace"):
        find_traces(path)


def test_a_process_that_is_killed_has_written_what_led_to_a_divergence(tmp_path: Path) -> None:
    with open_session(tmp_path / "run", window_s=3600.0, window_ops=10**9) as lockstep:
        cache = lockstep.shadow(control=legacy(), candidate=manager())
        for key in (1, 1, 2, 3, 4):
            cache.set_recur_cache(key, make_entry(key))
        cache.get_recur_cache(1)
        shutil.copytree(lockstep.run_dir, tmp_path / "killed")
    run = read_run(tmp_path / "killed")
    assert run.divergences
    assert int(recorded(run.path).records["op"][-1]) == run.divergences[-1].op_index


def test_what_a_stranger_s_key_raises_ends_the_trace_alone() -> None:
    class Pen:
        ended, head = "", b""

        def line(self, value: Any) -> None: ...
        def append(self, records: bytes) -> None:
            raise RuntimeError("of a stranger")

        def close(self) -> None: ...

    from shadow.wrapper.doors.pools import GET_RECUR

    recording = Recording(Pen())
    recording.note((0, GET_RECUR, None, 1, None))
    recording.write()
    recording.note((1, GET_RECUR, None, 1, None))
    recording.write()
    assert recording.rows == []
    assert recording.remarks() == [("trace_ended", "RuntimeError: of a stranger; the run went on unrecorded")]


class ZerosLost(KVCacheManager):
    """Loses the sign of zeros, which no drawn number shows."""

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> Any:
        own = cloned(kv_cache)
        for layer in own:
            for part in layer.get():
                part.add_(0.0)
        return super().set_recur_cache(cache_key, own)


SIGNED = [Step("set_recur_cache", None, key, EntrySpec(key, 3, payload="zeros")) for key in (1, 2, 1, 1)]


@guards("validator/replay/bodies.py", "if (whole := self.kept.get(body)) is None:", "whole = None\n        if True:")
@pytest.mark.parametrize("record", ["all", "failing"])
def test_what_depends_on_the_numbers_themselves_comes_again_where_entries_were_kept(
    record: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_session(tmp_path / "run", overhead_budget=0.0, selftest=False, record=record) as lockstep:
        cache = lockstep.shadow(control=manager(envs=3), candidate=ZerosLost({"num_simulations": 2}, 3))
        Player(cache, cache.observer).play_all([*SIGNED, Step("get_recur_cache", None, 1)])
    n = len(read_run(lockstep.run_dir).divergences)
    trace = recorded(lockstep.run_dir)
    assert trace.problems == []
    assert len(trace.bodies) == 2, "each entry once"
    assert main(["replay", str(lockstep.run_dir), "--out", str(tmp_path / "again")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "made of digests, but for 2 that were kept" in said
    assert n
    assert f"{n} of {n} recorded divergence" in said
    assert "did not come again" not in said


@guards("validator/replay/keeping.py", "        elif known != check:", "        elif False:")
def test_two_entries_of_one_digest_are_told() -> None:
    written: list[bytes] = []

    class Pen:
        bodies_ended = ""

        def body(self, data: bytes) -> None:
            written.append(data)

    keeping = Keeping(Pen(), waits=False)
    entries = [make_entry(seed) for seed in (1, 1, 2)]
    one = digest(leaves(entries[0]))
    for entry in entries[:2]:
        keeping.keep(one, 0, entry)
    assert (len(written), keeping.remark()) == (1, "")
    keeping.keep(one, 0, entries[2])
    assert "two entries of one digest differ" in keeping.remark()
    assert len(written) == 1


@guards("reports/disk/trace.py", "if self._room.used + len(data) > self._room.most * _BODIES_SHARE:", "if False:")
def test_where_there_is_no_room_for_entries_operations_are_recorded_all_the_same(tmp_path: Path) -> None:
    stream = list(steps(0, 300, TERRAIN))
    run = read_run(played(tmp_path, stream, record="all", record_mb=0.1))
    (said,) = [event["detail"] for event in run.events if event["event"] == "trace_bodies"]
    assert said.endswith("there is no room for more; later entries are known by their digests")
    assert sum(file.stat().st_size for file in run.path.rglob("*.bodies")) <= 75_000
    trace = recorded(run.path)
    assert trace.whole
    assert len(trace.bodies) > 0
    assert len(list(Program(trace).steps())) == len(stream)


@guards("reports/read/trace.py", "if check != xxh3_64_intdigest(body):", "if False:")
def test_entries_that_are_missing_torn_or_edited_are_told(tmp_path: Path) -> None:
    path = played(tmp_path, list(steps(0, 60, TERRAIN)), record="all")
    (file,) = path.rglob("*.bodies")
    whole = file.read_bytes()
    kept = len(recorded(path).bodies)
    edited = bytearray(whole)
    edited[-1] ^= 1
    file.write_bytes(edited)
    trace = recorded(path)
    assert len(trace.bodies) == kept - 1
    assert "was changed" in trace.problems[0]
    assert "an entry was changed" in trace.problems[1]
    file.write_bytes(whole[:-1])
    assert len(recorded(path).bodies) == kept - 1
    file.unlink()
    assert recorded(path).problems == [f"{file.name} is missing: its entries are made of their digests"]
