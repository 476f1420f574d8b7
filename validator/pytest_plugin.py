"""The pytest plugin: fixture, mark, settings, and the verdict on each test that shadows caches.

It is loaded by every run of pytest in its environment, so what imports torch is imported by the first test that shadows
something. It works from pytest 7.0 on, which is why the wrapper below is of the older kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from validator.one_test import Wanted, Watch

_MARK = "kv_lockstep"
_MARK_HELP = (
    f"{_MARK}(require=..., rtol=..., atol=..., primary=...): what a test that shadows KV caches has to exercise, which "
    "differences are none, and whose answers it receives"
)
SETTINGS = {
    "out": ("DIR", "keep run directories here, those of each test in a folder of its own (default: beside tmp_path)"),
    "primary": ("SIDE", "whose answers tests receive: control or candidate (default: control)"),
    "policy": ("POLICY", "what is demanded of each test: a gate policy that ships, or a TOML file (default: test)"),
    "waivers": ("FILE", "waivers that hold in each test, as for kv-lockstep gate"),
    "generate": ("MODULE:CALLABLE", "shadow every cache of transformers' generate() with a candidate that this makes"),
    "drill": ("FAULT", "plant this fault in every candidate: a test that shadows caches passes if it is found"),
}
_FIGURE = "kv_lockstep_"  # before the name of each figure of a test
_MAX_NAMED = 20
_NOTHING_WATCHED = (
    "kv-lockstep: INCONCLUSIVE: the mark requires what has to be seen, and nothing was watched; shadow the caches by "
    "the fixture kv_lockstep"
)
_watch: pytest.StashKey[Watch] = pytest.StashKey()
# What ends a test without a verdict of its own.
_NO_RESULT = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception, KeyboardInterrupt)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings: each is a flag, and a line of the project's own file."""
    group = parser.getgroup("kv-lockstep", "KV caches in lockstep")
    for name, (value, said) in SETTINGS.items():
        group.addoption(f"--kv-lockstep-{name}", metavar=value, default="", help=said)
        parser.addini(f"kv_lockstep_{name}", said, type="string", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Announce the mark; watch every ``generate()`` where that is asked for."""
    config.addinivalue_line("markers", _MARK_HELP)
    if name := _setting(config, "drill"):
        _begin_drill(config, name)
    if name := _setting(config, "generate"):
        from validator.generating import EveryGenerate

        config.pluginmanager.register(EveryGenerate(name, watching), "kv-lockstep-generate")


def _begin_drill(config: pytest.Config, name: str) -> None:
    """Plant a fault in every candidate of this process, and of those that it starts."""
    from validator.errors import ConfigError
    from validator.proof.drill.planting import FAULT, OUT, asked

    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setenv(FAULT, name)
    patch.delenv(OUT, raising=False)
    try:
        asked()
    except ConfigError as problem:
        raise pytest.UsageError(str(problem)) from None


@pytest.fixture
def kv_lockstep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Shadow caches: ``cache = kv_lockstep(control=..., candidate=...)``; judged when the test ends."""
    with watching(request.node, tmp_path_factory) as watch:
        watch.is_asked_for = True
        yield watch


@contextmanager
def watching(item: pytest.Item, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Give a test its one watch, from its setup to its teardown."""
    from validator.one_test import Watch, slug

    known = item.stash.get(_watch, None)
    if known is not None:
        yield known
        return

    def place() -> tuple[Path, str]:
        name, kept = slug(item.nodeid), _setting(item.config, "out")
        # What is kept from several runs of a test lies side by side.
        return (Path(kept, name), "") if kept else (tmp_path_factory.mktemp("kv-lockstep"), name)

    watch = item.stash[_watch] = Watch(_wanted(item), item.nodeid, place)
    try:
        yield watch
    finally:
        watch.close()
        del item.stash[_watch]  # it may run again


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a mark that asks for what there isn't, before the test runs."""
    if item.get_closest_marker(_MARK) is not None:
        _wanted(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Judge a test that shadows caches when it has run; its own failure goes first."""
    outcome = yield
    error = _raised(item, outcome)
    try:
        said = "" if isinstance(error, _NO_RESULT) else _judge(item, error)
        if _watch in item.stash:
            item.stash[_watch].close(error)  # what comes after is no part of the test
    except Exception as problem:
        said = f"kv-lockstep itself failed, so there is no verdict: {type(problem).__name__}: {problem}"
    if said and error is None:
        _fail(outcome, said)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what all tests came to together, those of other processes included."""
    reports = [each for kind, found in terminalreporter.stats.items() if kind != "rerun" for each in found]
    tests = {}
    for report in reports:
        figures = dict(getattr(report, "user_properties", ()))
        if getattr(report, "when", "") == "call" and f"{_FIGURE}verdict" in figures:
            tests[report.nodeid] = {name[len(_FIGURE) :]: value for name, value in figures.items()}
    if not tests:
        return
    verdicts = Counter(figures["verdict"] for figures in tests.values())
    named = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
    sums = {name: sum(figures[name] for figures in tests.values()) for name in ("lookups", "divergences")}
    terminalreporter.section("kv-lockstep")
    terminalreporter.line(
        f"{len(tests):,} watched: {named}; {sums['lookups']:,} lookups, {sums['divergences']:,} divergences"
    )
    unsound = [(nodeid, figures) for nodeid, figures in tests.items() if figures["verdict"] not in ("PASS", "found")]
    for nodeid, figures in unsound[:_MAX_NAMED]:
        terminalreporter.line(f"{figures['verdict']} {nodeid}: kv-lockstep report {figures['run']}")
    if len(unsound) > _MAX_NAMED:
        terminalreporter.line(f"and {len(unsound) - _MAX_NAMED:,} more")


def _judge(item: pytest.Item, error: BaseException | None) -> str:
    """Judge a test if it is one of ours; return what it fails for, or nothing."""
    watch = item.stash.get(_watch, None)
    if watch is None or not (watch.has_begun or watch.is_asked_for):
        requires = any("require" in mark.kwargs for mark in item.iter_markers(_MARK))
        return _NOTHING_WATCHED if requires else ""
    judged = watch.judged(error)
    if judged is None:
        return ""
    said = "" if judged.holds else judged.said
    shown = judged.shown if said and error is None else f"{judged.said}\n\n{judged.shown}"  # the failure says the rest
    item.add_report_section("call", "kv-lockstep", shown)
    others = [each for each in item.user_properties if not each[0].startswith(_FIGURE)]  # it may have run before
    item.user_properties[:] = [*others, *((f"{_FIGURE}{name}", value) for name, value in judged.figures.items())]
    return said


def _raised(item: pytest.Item, outcome: Any) -> BaseException | None:
    """Return what the test itself raised; of a ``unittest.TestCase`` pytest keeps it, until the report is made."""
    kept = getattr(item, "_excinfo", None)
    error: BaseException | None = kept[0].value if kept else outcome.excinfo and outcome.excinfo[1]
    return error


def _fail(outcome: Any, said: str) -> None:
    failed = pytest.fail.Exception(said, pytrace=False)
    if hasattr(outcome, "force_exception"):
        outcome.force_exception(failed)
    else:  # pluggy before 1.1; an error raised here would cut off other plugins' wrappers
        outcome._excinfo = (type(failed), failed, None)


def _wanted(item: pytest.Item) -> Wanted:
    """Return what is wanted of a test; what can't be fails it, in one sentence."""
    from validator.errors import ConfigError
    from validator.one_test import Wanted

    marked: dict[str, Any] = {}
    try:
        for mark in reversed(list(item.iter_markers(_MARK))):  # that of the test itself comes last
            if mark.args:
                raise ValueError(f"the mark takes names, as in require={{...}}, got {mark.args[0]!r}")
            marked.update(mark.kwargs)
        primary, policy, waivers = (_setting(item.config, name) for name in ("primary", "policy", "waivers"))
        return Wanted.of(marked, primary, policy, waivers)
    except (ValueError, ConfigError) as problem:
        said = str(problem)
    pytest.fail(f"kv-lockstep: {said}", pytrace=False)


def _setting(config: pytest.Config, name: str) -> str:
    """Return what a flag says, or else the project's file; a path counts from where pytest began, or from that file."""
    flag, said = config.getoption(f"kv_lockstep_{name}"), config.getini(f"kv_lockstep_{name}")
    value, base = (flag, config.invocation_params.dir) if flag else (str(said), config.rootpath)
    is_path = value and (name == "out" or value.endswith(".toml") or "/" in value)
    return str(base / value) if is_path else value
