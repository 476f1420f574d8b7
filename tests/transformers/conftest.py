"""Tiny models of four families, and their generation watched and unwatched."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs transformers where there is none, and let it warn as it likes."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            if find_spec("transformers") is None:
                reason = "transformers is not installed here; 'make test-transformers' builds environments that have it"
                item.add_marker(pytest.mark.skip(reason=reason))


def tiny(kind: str, seed: int = 1, **more: Any) -> Any:
    """Make a tiny random model: ``Llama``, ``Qwen2``, ``Gemma2`` or ``Mistral``; the last two with a window of 8."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    sizes: dict[str, Any] = {
        **{"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256},
        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None},
    }
    if kind != "Qwen2":
        sizes["head_dim"] = 8
    if kind in ("Gemma2", "Mistral"):
        sizes["sliding_window"] = 8
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**sizes | more)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def prompts() -> tuple[Any, Any]:
    """Return two prompts of different length, padded on the left, and their mask."""
    import torch

    ids = torch.randint(2, 97, (2, 11), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    ids[1, :4] = 0
    return ids, mask


def generated(model: Any, ids: Any, mask: Any, **more: Any) -> tuple[Any, Any]:
    """Generate from a seed; return tokens and logits."""
    import torch

    torch.manual_seed(7)
    settings = {"max_new_tokens": 14, "return_dict_in_generate": True, "output_logits": True, "do_sample": False}
    out = model.generate(ids, attention_mask=mask, **settings | more)
    return out.sequences, torch.stack(out.logits)
