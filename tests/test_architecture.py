"""One direction, host to shadow to validator to reports, read off the imports; see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
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
SHADOW_EXTERNALS = {"torch", "numpy", "xxhash", "gymnasium", "tomli"}
RECORD_TYPES = {"validator.records", "validator.run", "validator.histogram", "validator.trainings"}
# The composition root and the command line: the only places where the validator knows of reports.
COMPOSITION_ROOTS = ("validator.session", "validator.cli", "validator.commands")
WITHOUT_TORCH = (
    "validator.cli",
    "validator.gate",
    "validator.policy",
    "validator.run",
    "reports.reader",
    "reports.writer",
)


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    """Name every module that a source imports, wherever in it, except for types alone."""
    return set(_walk(ast.parse(source), module if is_package else module.rpartition(".")[0]))


def _walk(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for otherwise in node.orelse:
            yield from _walk(otherwise, package)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        origin = ".".join(part for part in (base, node.module) if part)
        yield origin
        yield from (f"{origin}.{alias.name}" for alias in node.names)  # 'from package import module'
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package)


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


IMPORTS = all_imports()


def test_every_package_was_found() -> None:
    assert {module.partition(".")[0] for module in IMPORTS} == set(PACKAGES)
    assert "torch" in IMPORTS["shadow.entry"]


@pytest.mark.parametrize("module", [module for module in IMPORTS if within(module, ("shadow",))])
def test_shadow_knows_nobody_above_it(module: str) -> None:
    tops = {name.partition(".")[0] for name in IMPORTS[module]}

    assert tops - {"shadow"} - SHADOW_EXTERNALS - sys.stdlib_module_names == set()


@pytest.mark.parametrize("module", [module for module in IMPORTS if within(module, ("reports",))])
def test_reports_know_record_types_and_never_a_tensor(module: str) -> None:
    names = IMPORTS[module]
    ours = {name for name in names if within(name, ("validator", "shadow")) and name != "validator"}

    assert {name for name in ours if not within(name, RECORD_TYPES)} == set()
    assert {name for name in names if within(name, ("torch",))} == set()


@pytest.mark.parametrize("module", [module for module in IMPORTS if within(module, ("validator",))])
def test_only_composition_roots_of_the_validator_know_reports(module: str) -> None:
    if within(module, COMPOSITION_ROOTS):
        return
    assert {name for name in IMPORTS[module] if within(name, ("reports", "rich", "pandas", "jinja2"))} == set()


def test_the_gate_judges_on_records_alone() -> None:
    judging = [module for module in IMPORTS if within(module, ("validator.gate", "validator.rules"))]
    ours = {name for module in judging for name in IMPORTS[module] if "." in name}
    ours = {name for name in ours if within(name, PACKAGES)}
    allowed = {*RECORD_TYPES, "validator.policy", "validator.rules", "validator.waivers", "validator.rates"}
    allowed |= {"validator.intervals", "validator.training_policy", "validator.noninferiority"}

    assert {name for name in ours if not within(name, allowed)} == set()


def test_nothing_unpickles() -> None:
    loaders = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "torch.load", "pandas.read_pickle")

    assert {module: name for module, names in IMPORTS.items() for name in names if within(name, loaders)} == {}


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_judging_and_reading_need_neither_torch_nor_pandas(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{'torch', 'pandas', 'shadow'}} & sys.modules.keys()))"

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
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", {"typing", "typing.TYPE_CHECKING"}),
        ("try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}),
    ],
)
def test_the_walk_sees_an_import_wherever_it_stands(source: str, expected: set[str]) -> None:
    assert imports_of(source, "shadow.hosts.module") == expected
