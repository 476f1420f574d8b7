"""The pytest plugin: a test that shadows caches is judged when it has run, and no other notices that it is there."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace
from typing import Any

import pytest

# What the runs below import stays loaded between them: torch can't be loaded twice in a process.
import validator.commands.at_close
import validator.generating  # noqa: F401  # what the plugin loads by itself, before pytester counts modules
from reports.reader import find_runs, read_run
from reports.record.run import Run
from tests.guards import guards
from validator.pytest_plugin import _fail

pytest_plugins = ["pytester"]

USE = """
import unittest
import pytest
from tests.shadow.entries import make_entry
from tests.validator.sessions import WrongAt
from tests.validator.trials import manager

def use(cache, n=6):
    for number in range(n):
        cache.set_init_cache(0, number // 2, make_entry(number))
        cache.get_init_cache(0, number // 2)
    return cache

def sound():
    return {"control": manager(), "candidate": manager()}

def wrong():
    return {"control": manager(), "candidate": WrongAt(3)}
"""


class Inner:
    """Runs pytest on a file of tests, in this process."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def __call__(self, tests: str, *flags: str, **outcomes: int) -> str:
        """Return what was printed, once the outcomes are as expected."""
        self.pytester.makepyfile(test_it=USE + tests)
        done = self.pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error", *flags)
        done.assert_outcomes(**outcomes)
        return str(done.stdout)

    def runs(self, out: str = "kept") -> dict[str, Run]:
        """Return the runs that were kept, by test."""
        folders = sorted((self.pytester.path / out).iterdir())
        return {folder.name: read_run(find_runs(folder)[-1]) for folder in folders}


@pytest.fixture
def inner(pytester: pytest.Pytester) -> Inner:
    return Inner(pytester)


def test_a_sound_candidate_passes_and_is_counted(inner: Inner) -> None:
    said = inner("def test_it(kv_lockstep): use(kv_lockstep(**sound()))", passed=1)

    assert "1 watched: 1 PASS; 6 lookups, 0 divergences" in said


@guards("validator/pytest_plugin.py", "if said and error is None:", "if False:")
@guards("validator/pytest_plugin.py", "judged.shown if said and", "judged.said if said and")
def test_a_divergence_fails_the_test_itself_with_cause_side_and_evidence(inner: Inner) -> None:
    said = inner("def test_it(kv_lockstep): use(kv_lockstep(**wrong()))", failed=1)

    message, _, section = said.partition("Captured kv-lockstep call")
    assert "kv-lockstep: FAIL: the candidate must not ship" in message
    assert "candidate at fault, values corrupted, 1 time: The candidate (WrongAt) answers" in message
    assert "Show me: divergence #0  candidate at fault, values corrupted" in section
    assert "FAIL test_it.py::test_it: kv-lockstep report " in section


@guards("validator/pytest_plugin.py", "watch.is_asked_for = True", "pass")
@guards("configs/gate/test.toml", "every_pair = true", "every_pair = false")
def test_what_looked_at_nothing_fails_as_inconclusive(inner: Inner) -> None:
    said = inner(
        """
def test_never_called(kv_lockstep): pass
def test_never_used(kv_lockstep): kv_lockstep(**sound())
def test_never_looked_up(kv_lockstep): kv_lockstep(**sound()).set_init_cache(0, 1, make_entry(1))
def test_one_of_two(kv_lockstep): use(kv_lockstep(**sound())), kv_lockstep(**sound(), name="other")
""",
        failed=4,
    )

    assert said.count("\nkv-lockstep: INCONCLUSIVE: not enough evidence to ship") == 4
    assert "look up what was stored, through the cache that kv_lockstep(control=..., candidate=...) returned" in said
    assert "in every pair, found none of other" in said


@guards("validator/pytest_plugin.py", "if said and error is None:", "if said:")
def test_the_tests_own_failure_goes_first(inner: Inner) -> None:
    said = inner(
        """
def test_it(kv_lockstep):
    use(kv_lockstep(**wrong()))
    assert 1 == 2, "its own"

class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _take(self, kv_lockstep): self.shadow = kv_lockstep
    def test_in(self):
        use(self.shadow(**wrong()))
        self.assertTrue(False, "its own")

def test_sound(kv_lockstep):
    use(kv_lockstep(**sound()))
""",
        failed=2,
        passed=1,
    )

    assert said.count("E       AssertionError: its own") == 1
    assert said.count("E       AssertionError: False is not true : its own") == 1
    assert said.count("kv-lockstep: FAIL: the candidate must not ship") == 2  # in their sections
    assert said.count("crashed, the host ended by AssertionError: ") == 2


@guards("validator/pytest_plugin.py", "except Exception as problem:", "except LookupError as problem:")
def test_a_fault_of_its_own_is_no_pass_and_does_not_hide_the_tests_failure(inner: Inner) -> None:
    said = inner(
        """
@pytest.fixture(autouse=True)
def _broken(monkeypatch):
    monkeypatch.setattr("validator.one_test.judge", None)

def test_it(kv_lockstep): use(kv_lockstep(**sound()))

def test_own(kv_lockstep):
    use(kv_lockstep(**sound()))
    assert False, "its own"
""",
        failed=2,
    )

    assert "kv-lockstep itself failed, so there is no verdict: TypeError: 'NoneType' object is not callable" in said
    assert "E       AssertionError: its own" in said


def test_an_old_pluggy_is_told_of_a_failure_in_its_own_way() -> None:
    outcome = SimpleNamespace()
    _fail(outcome, "said")

    kind, failed, _ = outcome._excinfo
    assert (kind, failed.msg) == (pytest.fail.Exception, "said")


def test_a_test_case_and_a_coroutine_are_judged_in_their_call(inner: Inner) -> None:
    inner.pytester.makeconftest(
        """
import asyncio, inspect, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):  # as the plugins for asyncio do
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(pyfuncitem.obj(pyfuncitem.funcargs["kv_lockstep"]))
        return True
"""
    )
    said = inner(
        """
class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _take(self, kv_lockstep): self.shadow = kv_lockstep
    def test_wrong(self): use(self.shadow(**wrong()))
    def test_sound(self): use(self.shadow(**sound()))

async def test_wrong(kv_lockstep): use(kv_lockstep(**wrong()))
async def test_sound(kv_lockstep): use(kv_lockstep(**sound()))
""",
        failed=2,
        passed=2,
    )

    assert "4 watched: 2 FAIL, 2 PASS; 24 lookups, 2 divergences" in said


def test_skipped_and_expected_to_fail_stay_what_they_are(inner: Inner) -> None:
    said = inner(
        """
def test_skips(kv_lockstep):
    use(kv_lockstep(**wrong()))
    pytest.skip("here")

@pytest.mark.xfail
def test_xfails(kv_lockstep):
    use(kv_lockstep(**wrong()))

class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _take(self, kv_lockstep): self.shadow = kv_lockstep
    def test_skips(self): self.skipTest("here")
""",
        skipped=2,
        xfailed=1,
    )

    assert "1 watched: 1 FAIL" in said


@guards("validator/one_test.py", "coverage = demanded.coverage.requiring(names)", "coverage = demanded.coverage")
@guards("validator/pytest_plugin.py", 'return _NOTHING_WATCHED if requires else ""', 'return ""')
def test_what_a_mark_requires_must_be_seen(inner: Inner) -> None:
    said = inner(
        """
@pytest.mark.kv_lockstep(require={"overwrites", "clears all"})
def test_seen(kv_lockstep): use(kv_lockstep(**sound())).clear_all()

@pytest.mark.kv_lockstep(require="clears_all")
def test_not_seen(kv_lockstep): use(kv_lockstep(**sound()))

@pytest.mark.kv_lockstep(require="audits_full")
def test_not_of_the_policy(kv_lockstep): use(kv_lockstep(**sound()))

@pytest.mark.kv_lockstep(require="overwrites")
def test_not_watched(): pass

@pytest.mark.kv_lockstep(rtol=0.1, atol=0.1)
def test_not_watched_and_nothing_required(): pass
""",
        passed=3,
        failed=2,
    )

    assert "clears of everything: at least 1, found 0" in said
    assert "INCONCLUSIVE: the mark requires what has to be seen, and nothing was watched" in said


@guards("validator/pytest_plugin.py", "        _wanted(item)\n", "        pass\n")
@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("require={'crops', 'overwrites'}", "nothing counts 'crops'; known are activate past recording, "),
        ("require=3", "require takes names, as in require={'evictions'}, got 3"),
        ("tolerance=1", "the mark takes require, rtol, atol, primary, not tolerance"),
        ("rtol=0.1", "rtol and atol must be given together or not at all"),
        ("primary='both'", "primary must be 'control' or 'candidate', got 'both'"),
        ("{'overwrites'}", "the mark takes names, as in require={...}, got {'overwrites'}"),
    ],
)
def test_a_mark_that_can_not_be_meant_is_an_error_of_its_test(inner: Inner, mark: str, said: str) -> None:
    printed = inner(
        f"@pytest.mark.kv_lockstep({mark})\ndef test_it(): pass\ndef test_other(): pass", errors=1, passed=1
    )

    assert f"\nkv-lockstep: {said}" in printed.replace("the mark: rtol", "rtol")
    assert "Traceback" not in printed


@guards(
    "validator/pytest_plugin.py",
    "for mark in reversed(list(item.iter_markers(_MARK))):",
    "for mark in item.iter_markers(_MARK):",
)
def test_marks_of_module_and_test_add_up_and_tolerance_and_primary_apply(inner: Inner) -> None:
    inner(
        """
pytestmark = pytest.mark.kv_lockstep(rtol=0.5, atol=5.0, primary="candidate")
def test_close(kv_lockstep): use(kv_lockstep(**wrong()))
@pytest.mark.kv_lockstep(rtol=0.0, atol=0.0, primary="control")
def test_exact(kv_lockstep): use(kv_lockstep(**wrong()))
""",
        *("--kv-lockstep-out", "kept"),
        failed=1,
        passed=1,
    )

    close, exact = inner.runs()["test_it.py-test_close"], inner.runs()["test_it.py-test_exact"]
    assert [close.manifest["validation"]["atol"], close.caches[0]["primary"]] == [5.0, "candidate"]
    assert [exact.manifest["validation"]["atol"], exact.caches[0]["primary"]] == [0.0, "control"]
    assert close.manifest["test"] == "test_it.py::test_close"


def test_a_projects_file_sets_what_a_flag_overrules(inner: Inner) -> None:
    inner.pytester.makeini(
        "[pytest]\nkv_lockstep_out = by file\nkv_lockstep_primary = candidate\nkv_lockstep_policy = strict.toml\n"
    )
    inner.pytester.path.joinpath("strict.toml").write_text(
        "selftest = false\n[coverage]\nclears_recur = 3\n", encoding="utf-8"
    )
    tests = "def test_it(kv_lockstep): use(kv_lockstep(**sound()))"

    said = inner(tests, failed=1)
    inner(tests, "--kv-lockstep-policy=test", "--kv-lockstep-primary=control", passed=1)
    inner(tests, "--kv-lockstep-policy=smok", errors=1)

    assert "clears of the recurrent pool: at least 3, found 0" in said
    folder = inner.pytester.path / "by file" / "test_it.py-test_it"
    assert "candidate  shadow.manager.KVCacheManager (primary" in said
    assert sorted(read_run(run).caches[0]["primary"] for run in find_runs(folder)) == ["candidate", "control"]


def test_waivers_take_away_what_they_describe(inner: Inner) -> None:
    inner.pytester.path.joinpath("mine.toml").write_text(
        """
[[waiver]]
id = "known"
cause = "values corrupted"
side = "candidate"
owner = "me"
reason = "because"
issue = "https://example.org/1"
expires = 2999-01-01
max_count = 1
scope = { candidate = "tests.validator.sessions.WrongAt" }
""",
        encoding="utf-8",
    )
    tests = "def test_it(kv_lockstep): use(kv_lockstep(**wrong()))"

    inner(tests, failed=1)
    inner(tests, "--kv-lockstep-waivers=mine.toml", passed=1)


@guards("validator/one_test.py", "if self._ended:", "if False:")
def test_a_session_ends_with_its_test_however_that_ends(inner: Inner) -> None:
    inner(
        """
@pytest.fixture
def broken(kv_lockstep):
    use(kv_lockstep(**sound()))
    raise OSError("in the setup")

def test_it(broken): pass

@pytest.fixture
def late(kv_lockstep):
    yield
    with pytest.raises(RuntimeError, match="this test has ended and was judged"):
        kv_lockstep(**sound())

def test_late(late, kv_lockstep): use(kv_lockstep(**sound()))
""",
        "--kv-lockstep-out=kept",
        errors=1,
        passed=1,
    )

    assert [run.summary is not None for run in inner.runs().values()] == [True, True]


@guards("validator/pytest_plugin.py", "del item.stash[_watch]", "pass")
def test_a_test_that_runs_again_is_watched_anew(inner: Inner) -> None:
    inner.pytester.makeconftest(
        """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):  # as the plugins that run tests again do
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem, log=False)
    item._initrequest()
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""
    )
    inner(
        "calls = []\ndef test_it(kv_lockstep): calls.append(use(kv_lockstep(**(sound() if calls else wrong()))))",
        "--kv-lockstep-out=kept",
        passed=1,
    )

    assert len(find_runs(inner.pytester.path / "kept" / "test_it.py-test_it")) == 2


# Stands for the shape that caches of transformers have, which is shadowed where they are prepared.
SHADOWS = """
import contextlib, sys, types
import pytest

class Model:
    def generate(self):
        from tests.validator.trials import manager
        return manager()

real = Model.generate

@contextlib.contextmanager
def watched_generation(shadow, candidate, primary, name):
    Model.generate = lambda self: shadow(control=real(self), candidate=candidate(self), primary=primary, name=name)
    yield
    Model.generate = real

stand_in = types.ModuleType("validator.shapes.append")
stand_in.watched_generation = watched_generation

@pytest.fixture(scope="session", autouse=True)
def _stands_in():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, stand_in.__name__, stand_in)
        yield
"""
CANDIDATES = """
from tests.validator.sessions import WrongAt
from tests.validator.trials import ENVS, manager

def good(model): return manager()
def bad(model): return WrongAt(3)
"""
GENERATES = """
import conftest

def test_that_never_generates(): pass

def test_that_generates():
    model = conftest.Model()
    use(model.generate()), use(model.generate())

def test_that_generates_and_fails():
    assert use(conftest.Model().generate()) is None

class TestCase(unittest.TestCase):
    def test_that_generates(self):
        use(conftest.Model().generate())

@pytest.fixture
def late():
    yield
    assert conftest.Model.generate is conftest.real

def test_that_generates_late(late): pass
"""


@pytest.fixture
def generating(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> Inner:
    """Tests that generate with what stands for transformers, and candidates by name."""
    inner.pytester.mkpydir("transformers")
    inner.pytester.makeconftest(SHADOWS)
    inner.pytester.makepyfile(candidates=CANDIDATES)
    monkeypatch.syspath_prepend(inner.pytester.path)
    return inner


@guards("validator/pytest_plugin.py", "(watch.has_begun or watch.is_asked_for)", "watch.is_asked_for")
@guards("validator/one_test.py", "self._until_the_end.close()", "pass")
def test_every_test_of_a_suite_that_generates_is_judged_and_no_other(generating: Inner) -> None:
    sound = generating(GENERATES, "--kv-lockstep-generate=candidates:good", passed=4, failed=1)
    wrong = generating(GENERATES, "--kv-lockstep-generate=candidates:bad", "--kv-lockstep-out=kept", passed=2, failed=3)

    assert "kv-lockstep: every generate() in lockstep with candidates:good" in sound
    assert "3 watched: 1 INCONCLUSIVE, 2 PASS; 24 lookups, 0 divergences" in sound
    assert "3 watched: 3 FAIL; 24 lookups, 4 divergences" in wrong
    assert [name.rpartition("-")[2] for name in generating.runs()] == [
        *("test_that_generates", "test_that_generates", "test_that_generates_and_fails")
    ]


@pytest.mark.parametrize("name", ["candidates:missing", "no_such_module:good", "candidates", "candidates:ENVS"])
def test_a_candidate_that_is_not_there_is_told_before_any_test(generating: Inner, name: str) -> None:
    generating.pytester.makepyfile("def test_it(): pass")
    done = generating.pytester.runpytest_inprocess(f"--kv-lockstep-generate={name}")

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: --kv-lockstep-generate {name}: " in str(done.stderr)


def test_whoever_does_not_want_it_is_without_it(inner: Inner) -> None:
    said = inner(
        "def test_it(request): assert not request.config.pluginmanager.has_plugin('kv-lockstep')",
        "-p",
        "no:kv-lockstep",
        passed=1,
    )

    assert "kv-lockstep" not in said.replace("no:kv-lockstep", "")


@guards("validator/pytest_plugin.py", "if TYPE_CHECKING:\n", "if True:\n")
def test_a_suite_that_has_no_use_for_it_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_it(request):
    assert request.config.pluginmanager.has_plugin("kv-lockstep")
    assert {"torch", "numpy", "pandas", "rich", "shadow", "reports", "validator.session"} & sys.modules.keys() == set()
"""
    )
    flags = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist", "-W", "error"]
    done = subprocess.run([sys.executable, "-m", "pytest", *flags], cwd=pytester.path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_figures_cross_processes_and_reach_junit(inner: Inner) -> None:
    inner.pytester.makeconftest(
        """
import json
import pytest

@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_makereport(item):  # as xdist does between processes
    outcome = yield
    hook = item.config.hook
    data = hook.pytest_report_to_serializable(config=item.config, report=outcome.get_result())
    data = json.loads(json.dumps(data))
    outcome.force_result(hook.pytest_report_from_serializable(config=item.config, data=data))
"""
    )
    tests = "def test_it(kv_lockstep): use(kv_lockstep(**wrong()))\ndef test_other(): pass"
    said = inner(tests, "--junitxml=found.xml", "--kv-lockstep-out=kept", passed=1, failed=1)

    assert "1 watched: 1 FAIL; 6 lookups, 1 divergences" in said
    cases = {each.get("name"): each for each in ElementTree.parse(inner.pytester.path / "found.xml").iter("testcase")}
    figures: dict[Any, Any] = {each.get("name"): each.get("value") for each in cases["test_it"].iter("property")}
    assert [figures[f"kv_lockstep_{name}"] for name in ("verdict", "lookups", "divergences")] == ["FAIL", "6", "1"]
    assert read_run(figures["kv_lockstep_run"]).totals.n_lookups == 6
    assert list(cases["test_other"].iter("property")) == []


@guards("validator/pytest_plugin.py", "if judged.holds else judged.said", "if True else judged.said")
@guards("validator/one_test.py", "if lockstep.drill is not None and lockstep.drill.fault is not None:", "if False:")
def test_in_a_drill_a_test_passes_if_the_fault_is_found(inner: Inner) -> None:
    test = "def test_it(kv_lockstep): use(kv_lockstep(**sound()))"
    said = inner(test, "--kv-lockstep-drill", "keys and values swapped", "-rA", passed=1)
    assert "drill: fault 'keys and values swapped' found, named layer or K/V mixed up (candidate)" in said
    assert "1 watched: 1 found" in said

    said = inner(test, "--kv-lockstep-drill", "the youngest is evicted", "-rA", passed=1)
    assert "drill: fault 'the youngest is evicted' not exercised: never evicts" in said

    passes = "def test_it(kv_lockstep): use(kv_lockstep(control=manager(), candidate=WrongAt(3)))"
    said = inner(passes, "--kv-lockstep-drill", "samples swapped", failed=1)  # what differs is something else
    assert "drill: fault 'samples swapped' misnamed, named values corrupted (candidate)" in said


def test_an_unknown_fault_of_a_drill_is_refused_before_any_test(inner: Inner) -> None:
    inner.pytester.makepyfile(test_it="def test_it(): pass")
    done = inner.pytester.runpytest_inprocess("-p", "no:cacheprovider", "--kv-lockstep-drill", "nonsense")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "names no planted fault; expected one that kv-lockstep drill --list shows" in str(done.stderr)
