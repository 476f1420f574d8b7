"""What is installed is what is in the checkout."""

from __future__ import annotations

from pathlib import Path

from tests.guards import guards
from validator.toml import read_toml

ROOT = Path(__file__).parents[1]
SHIPPED = "validator.shipped_configs"  # configs/, installed beside what reads them


@guards("pyproject.toml", '    "validator.shapes",\n', "")
def test_every_package_is_installed_and_no_other() -> None:
    listed = read_toml(ROOT / "pyproject.toml", "a project")["tool"]["setuptools"]["packages"]
    folders = [path.parent for top in ("shadow", "validator", "reports") for path in (ROOT / top).rglob("__init__.py")]

    assert sorted(listed) == sorted([SHIPPED, *(".".join(folder.relative_to(ROOT).parts) for folder in folders)])
