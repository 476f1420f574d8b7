"""Heat maps: computed from the tensors, whatever their dtype, and honest where nothing can be subtracted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reports.content.heat_maps import Shown, differences
from reports.formats.html.svg import bounds, level


def kept(path: Path, **tensors: torch.Tensor) -> Shown | str:
    save_file({name.replace("_", "."): tensor for name, tensor in tensors.items()}, path / "e.safetensors")
    return differences(path, "e.safetensors")


def entry(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape) / 7


class TestDifferences:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_find_layer_head_and_token(self, tmp_path: Path, dtype: torch.dtype) -> None:
        one = torch.ones(1, 3, 5, 4, dtype=dtype)
        other = one.clone()
        other[0, 2, 3, 1] = 3.5

        shown = kept(
            tmp_path,
            control_layer0_k=one,
            candidate_layer0_k=one.clone(),
            control_layer1_v=one.clone(),
            candidate_layer1_v=other,
        )

        assert isinstance(shown, Shown)
        assert shown.worst == "L1 V"
        assert shown.layers.rows == ("L0 K", "L1 V")
        assert shown.layers.values == ((0.0,) * 5, (0.0, 0.0, 0.0, 2.5, 0.0))
        assert shown.heads.values[2] == (0.0, 0.0, 0.0, 2.5, 0.0)
        assert shown.heads.values[:2] == ((0.0,) * 5,) * 2

    def test_layers_stand_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        tensors = {f"{side}_layer{n}_k": entry(1, 1, 2, 2) for n in (10, 2, 0) for side in ("control", "candidate")}

        shown = kept(tmp_path, **tensors)

        assert isinstance(shown, Shown)
        assert shown.layers.rows == ("L0 K", "L2 K", "L10 K")

    def test_a_token_of_one_side_only_is_no_number(self, tmp_path: Path) -> None:
        shown = kept(tmp_path, control_layer0_k=torch.ones(1, 2, 3, 4), candidate_layer0_k=torch.ones(1, 2, 5, 4))

        assert isinstance(shown, Shown)
        assert shown.layers.values[0][:3] == (0.0, 0.0, 0.0)
        assert all(math.isnan(value) for value in shown.layers.values[0][3:])

    def test_nan_on_both_sides_is_equal_and_on_one_side_is_infinite(self, tmp_path: Path) -> None:
        one, other = torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2)
        one[0, 0, 0, 0] = other[0, 0, 0, 0] = math.nan
        other[0, 0, 1, 0] = math.nan
        other[0, 0, 2, 0] = math.inf

        shown = kept(tmp_path, control_layer0_k=one, candidate_layer0_k=other)

        assert isinstance(shown, Shown)
        assert shown.layers.values[0] == (0.0, math.inf, math.inf)

    def test_many_tokens_and_layers_are_put_together_and_it_says_so(self, tmp_path: Path) -> None:
        tensors = {}
        for number in range(40):
            tensors[f"control_layer{number}_k"] = entry(1, 1, 100, 1)
            tensors[f"candidate_layer{number}_k"] = entry(1, 1, 100, 1)
        tensors["candidate_layer39_k"][0, 0, 99, 0] += 1

        shown = kept(tmp_path, **tensors)

        assert isinstance(shown, Shown)
        assert len(shown.layers.rows) == 24
        assert shown.layers.rows[-1] == "L39 K"
        assert len(shown.layers.columns) <= 48
        assert shown.layers.values[-1][-1] > 0.9
        assert "24 worst of 40 rows" in shown.layers.remark
        assert "3 tokens in each column" in shown.layers.remark

    def test_one_side_alone(self, tmp_path: Path) -> None:
        assert "tensors of only one side are kept" in str(kept(tmp_path, control_layer0_k=torch.ones(1, 1, 2, 2)))

    def test_shapes_that_differ(self, tmp_path: Path) -> None:
        said = kept(tmp_path, control_layer0_k=torch.ones(1, 1, 2, 2), candidate_layer0_k=torch.ones(1, 2, 2, 2))

        assert said == "nothing can be subtracted, because their shapes differ (L0 K)"

    def test_what_is_kept_of_both_sides_is_drawn_and_what_is_not_is_named(self, tmp_path: Path) -> None:
        both = {f"{side}_layer1_v": entry(1, 1, 2, 2) for side in ("control", "candidate")}

        shown = kept(tmp_path, **both, control_layer0_k=entry(1, 1, 2, 2), candidate_layer2_k=entry(1, 1, 2, 2))

        assert isinstance(shown, Shown)
        assert shown.layers.rows == ("L1 V",)
        assert shown.layers.remark == "not drawn, because only one side has them (L0 K, L2 K)"

    @pytest.mark.parametrize("content", [b"", b"garbage" * 10, json.dumps({"a": 1}).encode()])
    def test_a_file_that_is_none_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "e.safetensors").write_bytes(content)

        assert "e.safetensors can't be read" in str(differences(tmp_path, "e.safetensors"))


def test_levels_span_what_is_there() -> None:
    from reports.content.heat_maps import Grid

    grid = Grid(("r",), ("0", "1", "2", "3"), ((0.0, 1e-3, 1.0, math.inf),))
    least, greatest = bounds(grid)

    assert [level(value, least, greatest) for value in (*grid.values[0], math.nan)] == ["0", "1", "8", "x", "n"]
    assert np.isclose([least, greatest], [1e-3, 1.0]).all()


class TestDifferencesOfNests:
    def test_are_drawn_by_path_whatever_the_number_of_dimensions(self, tmp_path: Path) -> None:
        wide = {"1.k": entry(3, 4), "0": entry(5), "1.v": entry(2, 3, 4), "2.q": torch.ones(2, 2).bool()}
        wide["2.many"] = entry(2, 2, 3, 4, 2)
        sides = {f"control.{path}": tensor for path, tensor in wide.items()}
        sides |= {f"candidate.{path}": tensor.clone() for path, tensor in wide.items()}
        sides["candidate.1.k"][1, 3] += 2.5
        save_file(sides, tmp_path / "e.safetensors")

        shown = differences(tmp_path, "e.safetensors")

        assert isinstance(shown, Shown)
        assert (shown.worst, shown.tensor) == ("1.k", "1.k")
        assert shown.layers.rows == ("0", "1.k", "1.v", "2.many", "2.q")
        assert shown.heads.values == ((0.0, 2.5, 0.0),)

    def test_leave_out_a_type_that_cant_be_drawn_and_say_so(self, tmp_path: Path) -> None:
        codes = entry(2, 2).to(torch.float8_e4m3fn)

        shown = kept(tmp_path, control_q=codes, candidate_q=codes.clone(), control_s=entry(2), candidate_s=entry(2) + 1)

        assert isinstance(shown, Shown)
        assert shown.layers.rows == ("s",)
        assert shown.layers.remark == "not drawn, because their dtype can't be drawn (q)"
