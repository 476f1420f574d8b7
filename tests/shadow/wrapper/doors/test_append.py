"""What a host holds of an append cache: in a compiled model the harness is called, and never compiled itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.guards import guards
from validator.proof.appends.caches import FixedCache
from validator.session import Lockstep


@guards(
    "shadow/wrapper/doors/append.py",
    "    function._torchdynamo_disable, function._torchdynamo_disable_msg = True, why\n",
    "",
)
@guards(
    "shadow/wrapper/doors/append.py",
    "        frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))\n",
    "",
)
def test_a_compiled_model_is_watched_and_one_that_has_to_be_a_single_graph_refused(tmp_path: Path) -> None:
    compiled: list[str] = []
    rows = torch.randn(2, 1, 4, 3, 8)

    def model(cache: Any, keys: Any, values: Any) -> Any:
        return 2 * cache.update(keys, values, 0)[0]

    def noted(graph: Any, _: Any) -> Any:
        compiled.append(str(graph.graph))
        return graph.forward

    with Lockstep(tmp_path) as lockstep:
        cache = lockstep.shadow(control=FixedCache(1, 64), candidate=FixedCache(1, 64))
        with pytest.raises(
            RuntimeError, match="kv-lockstep can't watch a cache inside a model that is compiled with fullg"
        ):
            torch.compile(model, fullgraph=True, backend=noted)(cache, *rows)
        watched = torch.compile(model, backend=noted)(cache, *rows)

    assert torch.equal(watched, model(FixedCache(1, 64), *rows))
    assert lockstep.on_disk().totals.lookups == {"layers": {"both_hit_equal": 1}}
    assert len(compiled) == 1  # what the model does with the answer
