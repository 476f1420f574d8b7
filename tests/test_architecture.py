"""One direction, host to shadow to validator to reports, read off the imports; see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("shadow", "validator", "reports")
TOP_LEVEL = {
    *PACKAGES,
    *("tests", "configs", "docs", "benchmarks", ".ci"),
    *("pyproject.toml", "README.md", "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", ".gitignore"),
}
# What stands in the path of an operation, and the embedded host; never a framework that is hosted.
SHADOW_EXTERNALS = {"torch", "numpy", "xxhash", "gymnasium", "tomli", "transformers"}
# The folders of each package, lowest first: a module imports from its own folder and from those before it. What lies
# directly in a package stands by its own name, the rest of it under the package's.
FLOORS = {
    "shadow": (
        *("shadow.interface", "shadow.settings", "shadow.memory", "shadow.operation", "shadow.entry", "shadow.lent"),
        *("shadow.entries", "shadow.outside", "shadow.named"),
        *("shadow.located", "shadow.pool", "shadow.pooled", "shadow.legacy", "shadow.manager", "shadow.wrapper"),
        *("shadow.recompute", "shadow.switch", "shadow", "shadow.hosts"),
    ),
    "reports": (
        *("reports.errors", "reports.aloud", "reports.record", "reports.disk", "reports.read", "reports.writer"),
        *("reports.reader", "reports.content", "reports.formats", "reports"),
    ),
    "validator": (
        *("validator.errors", "validator.toml", "validator.config", "validator.provenance"),
        *(
            "validator.entries",
            "validator.models",
            "validator.judge",
            "validator.device",
            "validator.replay.keeping",
            "validator.replay.recording",
            "validator.replay.appending",
            "validator.observe",
            "validator.oracle",
            "validator.shapes",
            "validator.gate",
        ),
        *(
            "validator.gate.rules",
            "validator.gate.spread",
            "validator.gate.judgement",
            "validator.proof",
            "validator.bench",
            "validator.tensorboard",
            "validator.recorder",
            "validator.watchdog",
            "validator.endings",
        ),
        *(
            "validator.registry",
            "validator.ranks",
            "validator.session",
            "validator.replay",
            "validator.script",
            "validator.ab",
            "validator.campaign",
            "validator.commands",
        ),
        *("validator.one_test", "validator.generating", "validator.pytest_plugin", "validator.cli", "validator"),
    ),
}
# Which packages each may know.
KNOWS = {"shadow": {"shadow"}, "reports": {"reports"}, "validator": set(PACKAGES)}
# The recorder, the composition root, who says where it writes or drives a campaign, the commands and the plugin: where
# the validator knows how a report looks, and lies.
COMPOSITION_ROOTS = (
    "validator.recorder",
    "validator.ranks",
    "validator.session",
    "validator.campaign.drive",
    "validator.cli",
    "validator.commands",
    "validator.one_test",
)
WITHOUT_TORCH = (
    "validator.cli",
    "validator.gate.judgement",
    "validator.gate.policy",
    "validator.pytest_plugin",
    "reports.record.run",
    "reports.reader",
    "reports.writer",
)


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    """Name every module that a source imports, wherever in it, for types alone too."""
    return set(_walk(ast.parse(source), module if is_package else module.rpartition(".")[0]))


def _walk(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)  # 'from package import module'


@cache
def all_imports() -> dict[str, set[str]]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            found[module] = imports_of(path.read_text(encoding="utf-8"), module, is_package)
    return found


def within(name: str, roots: Iterator[str] | tuple[str, ...] | set[str]) -> bool:
    """Say whether a dotted name is one of the roots or lies below one."""
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def floor_of(module: str) -> int:
    """Return on which floor of its package a module stands."""
    floors = FLOORS[module.partition(".")[0]]
    return floors.index(max((floor for floor in floors if within(module, (floor,))), key=len))


def arrows(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Keep of each module's imports the modules of ours; a package that is only passed through is none."""
    found = {}
    for module, names in imports.items():
        ours = names & imports.keys()
        found[module] = {name for name in ours if not any(other.startswith(f"{name}.") for other in ours)} - {module}
    return found


def forbidden(imports: dict[str, set[str]]) -> list[str]:
    """List the imports that lead into a package one must not know, or up inside a package."""
    found = []
    for module, names in arrows(imports).items():
        package = module.partition(".")[0]
        for name in sorted(names):
            theirs = name.partition(".")[0]
            if theirs not in KNOWS[package]:
                found.append(f"{module} imports {name}: {package} must not know {theirs}")
            elif theirs == package and floor_of(name) > floor_of(module):
                found.append(f"{module} imports {name}, which stands above it")
    return found


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """List the sets of modules that import each other, directly or by way of others."""
    graph = arrows(imports)

    def reached(module: str) -> set[str]:
        seen: set[str] = set()
        waiting = [module]
        while waiting:
            for name in graph[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    below = {module: reached(module) for module in graph}
    found: list[set[str]] = []
    for module in graph:
        circle = {other for other in below[module] if module in below[other]}
        if circle and circle not in found:
            found.append(circle)
    return found


def test_every_package_was_found() -> None:
    assert {module.partition(".")[0] for module in all_imports()} == set(PACKAGES)
    assert "torch" in all_imports()["shadow.entry"]


def test_imports_lead_down() -> None:
    assert forbidden(all_imports()) == []


def test_no_modules_import_each_other() -> None:
    assert circles(all_imports()) == []


def test_every_floor_is_there() -> None:
    named = {floor for floors in FLOORS.values() for floor in floors}

    assert named - all_imports().keys() == set()


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("reports.record.run", "validator.errors", "reports must not know validator"),
        ("shadow.pool", "reports.writer", "shadow must not know reports"),
        ("shadow.wrapper.staging", "validator.entries.compare", "shadow must not know validator"),
        ("validator.judge.ledger", "validator.observe.pair", "stands above it"),
        ("reports.disk.layout", "reports.read.lines", "stands above it"),
        ("shadow.entry", "shadow.pool", "stands above it"),
    ],
)
def test_one_import_that_runs_the_other_way_is_found(module: str, name: str, said: str) -> None:
    with_one_more = {**all_imports(), module: all_imports()[module] | {name}}

    assert any(said in line and module in line for line in forbidden(with_one_more))


def test_one_import_that_closes_a_circle_is_found() -> None:
    imports = all_imports()
    with_one_more = {**imports, "reports.record.records": imports["reports.record.records"] | {"reports.record.run"}}

    assert any("reports.record.run" in circle for circle in circles(with_one_more))


def test_judgement_knows_no_shape_of_cache() -> None:
    judging = ("validator.entries", "validator.models", "validator.judge")
    shapes = ("validator.shapes", "shadow.wrapper.doors")
    names = {"init", "recur", "wm", "hierarchical"}

    for module in (module for module in all_imports() if within(module, judging)):
        path = ROOT / module.replace(".", "/")
        source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        texts = {n.value for n in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(n, ast.Constant)}
        assert {name for name in all_imports()[module] if within(name, shapes)} == set()
        assert texts & names == set(), module


def test_shadow_needs_few_packages_of_others() -> None:
    theirs = [names for module, names in all_imports().items() if within(module, ("shadow",))]
    tops = {name.partition(".")[0] for names in theirs for name in names}

    assert tops - {"shadow"} - SHADOW_EXTERNALS - sys.stdlib_module_names == set()


def test_reports_never_see_a_tensor() -> None:
    seeing = [module for module in all_imports() if within(module, ("reports",)) and "torch" in all_imports()[module]]

    assert seeing == []


def test_only_composition_roots_of_the_validator_know_more_of_reports_than_the_records() -> None:
    others = [m for m in all_imports() if within(m, ("validator",)) and not within(m, COMPOSITION_ROOTS)]
    found = arrows(all_imports())
    names = {(module, name) for module in others for name in found[module] if within(name, ("reports",))}

    assert {(module, name) for module, name in names if not within(name, ("reports.record", "reports.errors"))} == set()
    assert {m for m in others if all_imports()[m] & {"rich", "pandas", "jinja2"}} == set()


def test_the_gate_judges_on_records_alone() -> None:
    judging = [module for module in all_imports() if within(module, ("validator.gate",))]
    found = arrows(all_imports())
    names = {name for module in judging for name in found[module]}
    allowed = ("validator.gate", "validator.errors", "validator.toml", "validator.config", "reports.record")

    assert {name for name in names if not within(name, (*allowed, "shadow.settings"))} == set()


def test_nothing_unpickles() -> None:
    loaders = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "torch.load", "pandas.read_pickle")

    assert {module: name for module, names in all_imports().items() for name in names if within(name, loaders)} == {}


def test_judging_and_reading_need_neither_torch_nor_pandas() -> None:
    modules = ", ".join(WITHOUT_TORCH)
    script = f"import sys, {modules}; print(*sorted({{'torch', 'pandas', 'shadow'}} & sys.modules.keys()))"

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


def test_the_top_level_holds_only_what_was_agreed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout, so what belongs to the project can't be told from what was made in it")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()

    assert {name.partition("/")[0] for name in listed} - TOP_LEVEL == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import reports.writer", {"reports.writer"}),
        ("from reports import writer", {"reports", "reports.writer"}),
        ("def f():\n    import reports.writer", {"reports.writer"}),
        ("from .pool import KVCachePool", {"shadow.hosts.pool", "shadow.hosts.pool.KVCachePool"}),
        ("from .. import pool", {"shadow", "shadow.pool"}),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
            {"typing", "typing.TYPE_CHECKING", "torch"},
        ),
        ("try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}),
    ],
)
def test_the_walk_sees_an_import_wherever_it_stands(source: str, expected: set[str]) -> None:
    assert imports_of(source, "shadow.hosts.module") == expected
