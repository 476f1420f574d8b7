"""``generate`` watched: the same logits to the last bit, sound caches silent, and a wrong window named."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from reports.record.words import Cause, Fault
from tests.transformers.conftest import generated, prompts, tiny
from validator.config import ValidationConfig
from validator.session import Lockstep

MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "sampled": {"do_sample": True, "num_return_sequences": 2},
}


def dynamic(asked: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=asked.config) if asked.windows else DynamicCache()


def static(asked: Any) -> Any:
    from transformers import StaticCache

    return StaticCache(config=asked.config, max_cache_len=asked.max_length)


def session(tmp_path: Path, name: str = "run") -> Lockstep:
    return Lockstep(tmp_path, ValidationConfig(run_id=name, selftest=False))


def same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Gemma2", "Mistral"])
@pytest.mark.parametrize("mode", MODES)
def test_a_watched_generation_is_the_same_to_the_last_bit_and_sound_caches_are_silent(
    tmp_path: Path, kind: str, mode: str
) -> None:
    model, (ids, mask) = tiny(kind), prompts()
    for implementation in ({}, {"cache_implementation": "static"}):
        alone = generated(model, ids, mask, **MODES[mode], **implementation)
        for number, make in enumerate((dynamic, static)):
            name = f"{number}{bool(implementation)}"
            with session(tmp_path, name) as lockstep, lockstep.shadow_generate(candidate=make):
                watched = generated(model, ids, mask, **MODES[mode], **implementation)
            totals = lockstep.on_disk().totals

            assert same(alone, watched)
            assert (totals.n_divergences, totals.dropped) == (0, {})
            assert totals.lookups == {"layers": {"both_hit_equal": 42}}
            assert (mode == "beams") == ("reorder_cache" in totals.coverage)


def test_the_candidate_can_answer_in_place_of_the_control(tmp_path: Path) -> None:
    model, (ids, mask) = tiny("Mistral"), prompts()
    alone = generated(model, ids, mask)
    with session(tmp_path) as lockstep, lockstep.shadow_generate(candidate=dynamic, primary="candidate"):
        watched = generated(model, ids, mask)

    assert same(alone, watched)
    assert lockstep.on_disk().totals.lookups == {"layers": {"both_hit_equal": 42}}


@pytest.mark.parametrize("kind", ["Llama", "Qwen2"])
def test_assisted_decoding_watches_both_caches(tmp_path: Path, kind: str) -> None:
    model, assistant = tiny(kind), tiny(kind, seed=2, num_hidden_layers=1)
    ids, mask = prompts()
    ids, mask = ids[:1], mask[:1]
    alone = generated(model, ids, mask, assistant_model=assistant)
    with session(tmp_path) as lockstep, lockstep.shadow_generate(candidate=dynamic):
        watched = generated(model, ids, mask, assistant_model=assistant)
    run = lockstep.on_disk()

    assert same(alone, watched)
    assert (run.totals.n_divergences, run.totals.dropped) == (0, {})
    assert run.totals.coverage["crop"] > 0
    assert any("assistant" in str(line["cache"]) for line in run.caches)


def test_a_candidate_whose_window_is_one_short_fails_and_is_named(tmp_path: Path) -> None:
    from transformers import DynamicCache

    class MyCache(DynamicCache):
        def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
            answer = super().update(key_states, value_states, layer_idx, *args, **kwargs)
            layer = self.layers[layer_idx]
            layer.keys, layer.values = layer.keys[:, :, -6:], layer.values[:, :, -6:]
            return answer

    model, (ids, mask) = tiny("Mistral"), prompts()
    alone = generated(model, ids, mask)
    with session(tmp_path) as lockstep, lockstep.shadow_generate(candidate=lambda a: MyCache(config=a.config)):
        watched = generated(model, ids, mask)

    assert same(alone, watched)
    run = lockstep.on_disk()
    assert lockstep.verdict.verdict.value == "FAIL"
    assert {(each.cause, each.fault) for each in run.divergences} == {(Cause.WINDOW_OFF, Fault.CANDIDATE)}
    assert "has a window off by 1 in layer 0" in run.divergences[0].explanation


def test_a_cache_given_again_is_watched_once_and_one_that_is_full_is_taken_over(tmp_path: Path) -> None:
    from transformers import DynamicCache

    model, (ids, mask) = tiny("Llama"), prompts()
    name = "cache" if "cache" in model.forward.__annotations__ else "past_key_values"
    prompt = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask, **{name: prompt})
    ids, mask = torch.cat((ids, ids[:, :5]), 1), torch.cat((mask, torch.ones(2, 5, dtype=torch.long)), 1)
    alone = generated(model, ids, mask, **{name: copy.deepcopy(prompt)})
    with session(tmp_path) as lockstep, lockstep.shadow_generate(candidate=dynamic):
        once = generated(model, ids, mask, **{name: prompt})
        prompt.crop(-(prompt.get_seq_length() - 11))
        shared = copy.deepcopy(prompt)
        again = generated(model, ids, mask, **{name: prompt})
        of_the_copy = generated(model, ids, mask, **{name: shared})
    run = lockstep.on_disk()

    assert same(alone, once)
    assert same(alone, again)
    assert same(alone, of_the_copy)
    assert (run.totals.n_divergences, run.totals.dropped) == (0, {})
    assert [line["cache"] for line in run.caches] == ["generate", "generate-copy"]
    assert run.totals.lookups == {"layers": {"both_hit_equal": 3 * 42}}


def test_an_encoder_decoder_cache_is_two_pairs(tmp_path: Path) -> None:
    import transformers

    sizes = {"vocab_size": 97, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4}
    config = transformers.T5Config(**sizes, pad_token_id=0, decoder_start_token_id=0, eos_token_id=96)
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    ids, mask = prompts()
    alone = generated(model, ids, mask, num_beams=2, max_new_tokens=6)
    with session(tmp_path) as lockstep, lockstep.shadow_generate(candidate=lambda a: transformers.DynamicCache()):
        watched = generated(model, ids, mask, num_beams=2, max_new_tokens=6)
    run = lockstep.on_disk()

    assert same(alone, watched)
    assert (run.totals.n_divergences, run.totals.dropped) == (0, {})
    assert [line["cache"] for line in run.caches] == ["generate", "generate decoder cross attention"]


SIZES = {
    **{"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 256},
}
STATEFUL: dict[str, dict[str, Any]] = {
    "Lfm2": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "FalconH1": {
        **{"num_hidden_layers": 2, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
        **{"mamba_d_state": 8, "mamba_chunk_size": 8},
    },
}


@pytest.mark.parametrize("kind", STATEFUL)
def test_states_that_a_model_writes_in_place_are_followed_through_prompts_tokens_and_beams(
    tmp_path: Path, kind: str
) -> None:
    import transformers

    if not hasattr(transformers.cache_utils, "LinearAttentionLayer"):
        pytest.skip("here such models bring caches of their own, which nobody can watch")
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **STATEFUL[kind])
    model, (ids, _) = transformers.AutoModelForCausalLM.from_config(config).eval(), prompts()

    def logits(cache: Any) -> list[Any]:
        found = []
        with torch.no_grad():
            for tokens in (7, 1, 1, 4, 1):
                found.append(model(input_ids=ids[:, -tokens:], past_key_values=cache).logits)
            cache.reorder_cache(torch.tensor([1, 0]))
            found.append(model(input_ids=ids[:, :3], past_key_values=cache).logits)
        return found

    new = functools.partial(transformers.DynamicCache, config=config)
    with session(tmp_path) as lockstep:
        watched = logits(lockstep.shadow(control=new(), candidate=new()))
    totals = lockstep.on_disk().totals

    assert all(map(torch.equal, watched, logits(new())))
    assert (totals.n_divergences, totals.dropped) == (0, {})
    assert totals.coverage["states that the host wrote in place, carried over"] > 0
    assert totals.coverage["reorder_cache"] == 1


def test_what_a_cache_of_another_kind_needs_is_refused(tmp_path: Path) -> None:
    from shadow.hosts.transformers.generate import Unsupported

    model, (ids, mask) = tiny("Llama"), prompts()
    compiled = pytest.importorskip("transformers").CompileConfig(fullgraph=True)
    refused = pytest.raises(Unsupported, match="fullgraph=True")
    with session(tmp_path) as lockstep, lockstep.shadow_generate(candidate=dynamic), refused:
        generated(model, ids, mask, cache_implementation="static", compile_config=compiled)
