"""What a generation recorded is played again and shrunk to a test, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.reader import find_runs, read_run
from reports.record.words import Cause
from tests.transformers.conftest import generated, prompts, tiny
from tests.validator.sessions import open_session
from validator.cli import main

transformers: Any = pytest.importorskip("transformers")


class RowsReversed(transformers.DynamicCache):  # type: ignore[misc, name-defined]  # by importorskip
    """Stores the values of the rows in reverse, of single tokens."""

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        values = value_states.flip(0) if value_states.shape[2] == 1 else value_states
        return super().update(key_states, values, layer_idx, *args, **kwargs)


class WindowShort(transformers.DynamicCache):  # type: ignore[misc, name-defined]  # by importorskip
    """Forgets one position of a window too early, of single tokens."""

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        keys, values = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        short = key_states.shape[2] == 1 and keys.shape[2] == 8
        return (keys.roll(1, 2), values.roll(1, 2)) if short else (keys, values)


@pytest.mark.parametrize(
    ("faulty", "kind", "beams", "cause"),
    [
        (RowsReversed, "Llama", 1, Cause.OTHER_ROW),
        (RowsReversed, "Llama", 2, Cause.OTHER_ROW),
        (WindowShort, "Mistral", 1, Cause.POSITION_SHIFTED),
    ],
)
def test_a_generation_is_played_again_and_shrunk(
    faulty: type, kind: str, beams: int, cause: Cause, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny(kind)
    with (
        open_session(tmp_path / "runs", selftest=False, overhead_budget=0.0) as lockstep,
        lockstep.shadow_generate(candidate=lambda asked: faulty(config=asked.config)),
    ):
        generated(model, *prompts(), num_beams=beams)
    found = read_run(lockstep.run_dir).divergences
    assert cause in {one.cause for one in found}
    assert main(["replay", str(lockstep.run_dir), "--out", str(tmp_path / "again")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"{len(found):,} of {len(found):,} recorded divergence" in said
    assert {one.cause for one in read_run(find_runs(tmp_path / "again")[-1]).divergences} == {cause}
    out = tmp_path / "tests"
    assert main(["shrink", str(lockstep.run_dir), "--cause", cause.value, "--out", str(out)]) == 0
    (test,) = out.iterdir()
    namespace: dict[str, Any] = {}
    exec(test.read_text(), namespace)
    with pytest.raises(AssertionError):
        namespace[test.stem]()
    assert test.read_text().count("cache.update(") <= 9, test.read_text()
    sound = test.read_text().replace(f"= {faulty.__name__}(", "= transformers.DynamicCache(")
    exec(f"{sound}\nimport transformers\n{test.stem}()", {})
