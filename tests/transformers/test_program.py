"""Somebody else's programs that generate, watched without an edit: a script, a module, a file of tests."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from validator.cli import main

pytest_plugins = ["pytester"]
PROVEN = {
    **{"passed": True, "planted": 1, "detected": 1, "cause_right": 1, "side_right": 1},
    **{"false_alarms": 0, "sound_operations": 1, "harness_faults": []},
}

CACHES = """
from transformers import DynamicCache

class Short(DynamicCache):
    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        answer = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        layer = self.layers[layer_idx]
        layer.keys, layer.values = layer.keys[:, :, -6:], layer.values[:, :, -6:]
        return answer

def sound(asked):
    return DynamicCache(config=asked.config)

def short(asked):
    return Short(config=asked.config)
"""
GENERATES = """
import torch
import transformers

def generated(**more):
    torch.manual_seed(0)
    sizes = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    sizes |= dict(num_key_value_heads=2, head_dim=8, sliding_window=8, pad_token_id=0, eos_token_id=None)
    model = transformers.MistralForCausalLM(transformers.MistralConfig(**sizes)).eval()
    ids = torch.randint(2, 97, (2, 11))
    mask = torch.ones_like(ids)
    return model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, **more)
"""
TESTS = """
import unittest
import pytest
from their_model import generated

def test_one(): assert generated().shape == (2, 15)
def test_no_cache(): assert generated(use_cache=False).shape == (2, 15)
def test_never_generates(): pass
def test_fails_by_itself(): assert generated().shape == (0, 0)
def test_skipped(): pytest.skip("theirs")

@pytest.mark.parametrize("beams", [2, 3])
def test_beams(beams): assert generated(num_beams=beams).shape == (2, 15)

class TheirCase(unittest.TestCase):
    def setUp(self): self.expected = generated()
    def test_again(self): self.assertTrue((generated() == self.expected).all())
    def test_fails(self): self.assertEqual(generated().shape, 3)
    @unittest.expectedFailure
    def test_known(self): self.assertEqual(generated().shape, 3)
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their directory: the model, tests and a script, with our two candidates beside."""
    for name, text in {"their_caches": CACHES, "their_model": GENERATES, "test_theirs": TESTS}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "script.py").write_text("import sys, their_model; their_model.generated(num_beams=int(sys.argv[1]))")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("validator.session.quick_selftest", lambda: SimpleNamespace(summary=PROVEN.copy))  # seconds
    for name in ("their_caches", "their_model", "test_theirs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("program", "candidate", "code"), [("script.py", "sound", 0), ("-m script", "short", 1)])
def test_a_script_or_module_that_generates_is_judged(
    theirs: Path, capsys: pytest.CaptureFixture[str], program: str, candidate: str, code: int
) -> None:
    flags = ["--generate", f"their_caches:{candidate}", *(["--primary", "new"] if candidate == "sound" else [])]

    assert main(["run", *flags, "--", *program.split(), "3"]) == code

    said = capsys.readouterr().out
    assert ("PASS" in said) == (code == 0)
    assert ("window off" in said) == (code == 1)


def test_a_script_that_generates_nothing_is_inconclusive(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (theirs / "idle.py").write_text("import their_model; their_model.generated(use_cache=False)")

    assert main(["run", "--generate", "their_caches:sound", "--", "idle.py"]) == 5
    assert "INCONCLUSIVE: idle.py generated nothing with a cache" in capsys.readouterr().out


def test_results_of_somebody_else_s_tests_do_not_change_and_each_that_generates_is_judged(
    theirs: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(theirs)
    monkeypatch.syspath_prepend(theirs)
    flags = ("-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(theirs), "-rA", str(theirs))

    def run(*more: str) -> tuple[dict[str, int], str]:
        monkeypatch.delitem(sys.modules, "test_theirs", raising=False)
        done = pytester.runpytest_inprocess(*flags, *more)
        return done.parseoutcomes(), str(done.stdout)

    plain, _ = run()
    sound, shown = run("--kv-lockstep-generate=their_caches:sound")
    short, told = run("--kv-lockstep-generate=their_caches:short")

    assert {"passed": 6, "failed": 2, "skipped": 1, "xfailed": 1}.items() <= plain.items()
    assert {name: sound.get(name) for name in plain if name != "warnings"} == {
        name: count for name, count in plain.items() if name != "warnings"
    }
    assert "6 watched: 2 INCONCLUSIVE, 4 PASS;" in shown
    assert (short["passed"], short["failed"]) == (2, 6)  # those that use no cache pass as before
    assert "candidate at fault, window off" in told
