"""Who is wrong, and why: short programs through both sides, judged against what each should hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from reports.record.words import Cause, Dimension, Fault
from shadow.entry import KeysValues, leaves
from tests.guards import guards
from tests.validator.trials import (
    CONFIG,
    DictCache,
    Open,
    Undeclared,
    charged,
    config,
    counted,
    declared,
    entry,
    legacy,
    manager,
    only,
    trial,
)
from validator.judge import words
from validator.judge.values import remembered
from validator.proof.trial import Trial

PRIMARIES = ("control", "candidate")


def play(run: Trial, program: str, pool: str = "init") -> None:
    """Play a program as semantics.md writes it: a letter is a set, ``|`` a clear, ``?`` before a letter a get."""
    cache: Any = run.cache
    first = (0,) if pool == "init" else ()
    number = 0
    letters = iter(program.replace(" ", ""))
    for letter in letters:
        if letter == "|":
            cache.clear_init_cache(0) if pool == "init" else cache.clear_recur_cache()
        elif letter == "?":
            getattr(cache, f"get_{pool}_cache")(*first, ord(next(letters)))
        else:
            number += 1
            getattr(cache, f"set_{pool}_cache")(*first, ord(letter), entry(number))


# The quirks of the legacy ring, in the sequences of semantics.md


@guards(
    "validator/judge/referee.py",
    "if gone is not None and gone.reason in words.QUIRKS",
    "if False and gone is not None and gone.reason in words.QUIRKS",
)
@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize(
    ("capacity", "program", "cause", "name"),
    [
        (2, "A A B ?A", Cause.SLOT_LEAK, "L1"),
        (2, "A B A C ?A", Cause.AGE_REFRESHED, "L2"),
        (2, "A B A C ?B", Cause.AGE_REFRESHED, "L2"),
        (3, "A B B C ?A", Cause.CAPACITY_EATEN, "L3"),
        (2, "A | A B ?A", Cause.REVERSE_MAP_SURVIVED, "L4"),
        (2, "A B | B C ?B", Cause.REVERSE_MAP_SURVIVED, "L4"),
    ],
)
def test_each_quirk_of_the_legacy_ring_is_named_and_charged_to_the_control(
    capacity: int, program: str, cause: Cause, name: str, primary: str
) -> None:
    run = trial(legacy(config(capacity)), manager(config(capacity)), primary)
    play(run, program)
    charge = only(run)
    assert (charge.cause, charge.fault, charge.dimension) == (cause, Fault.CONTROL, Dimension.PRESENCE)
    assert name in charge.explanation
    assert charge.explanation.startswith("The control (LegacyKVCache) ")
    run.finish()
    assert charged(run) == [(cause, Fault.CONTROL)], "an audit has nothing to add"


@pytest.mark.parametrize("program", ["A A B ?A", "A B A C ?B", "A B A C ?A"])
def test_a_legacy_candidate_is_charged_with_its_own_quirks(program: str) -> None:
    run = trial(manager(config(2)), legacy(config(2)))
    play(run, program)
    assert only(run).fault is Fault.CANDIDATE


@pytest.mark.parametrize("pool", ["init", "recur"])
def test_the_quirks_show_in_the_recurrent_pool_as_well(pool: str) -> None:
    cfg = {"num_simulations": 2, "max_cache_size": 2}
    run = trial(legacy(cfg, 1), manager(cfg, 1))
    play(run, "A A B ?A", pool)
    assert only(run).cause is Cause.SLOT_LEAK


def test_a_hierarchical_lookup_names_the_quirk_too() -> None:
    run = trial(legacy(config(2)), manager(config(2)))
    play(run, "A A B")
    run.cache.hierarchical_get(0, ord("A"))
    assert only(run).cause is Cause.SLOT_LEAK


def test_an_entry_the_quirk_kept_back_lets_a_hierarchical_lookup_answer_another_pool() -> None:
    run = trial(legacy(config(2)), manager(config(2)))
    play(run, "A A B")
    run.cache.set_recur_cache(ord("A"), entry(50))
    run.cache.hierarchical_get(0, ord("A"))
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.SLOT_LEAK, Fault.CONTROL)
    assert len(charge.leaves) == 4


@guards(
    "validator/observe/lookups.py",
    " and (one is None or one.pool != self._first[pool])",
    "",
)
def test_a_lookup_that_goes_on_to_the_recurrent_pool_is_counted_as_one_of_both() -> None:
    run = trial(manager(config(4)), manager(config(4)))
    run.cache.set_init_cache(0, 1, entry(1))
    run.cache.set_recur_cache(2, entry(2))
    for key, both in ((1, 0), (2, 1), (3, 2)):
        run.cache.hierarchical_get(0, key)
        run.cache.get_recur_cache(key)
        assert run.pair.case.counters.coverage["lookups_of_both_pools"] == both


@pytest.mark.parametrize("make", [legacy, manager])
@pytest.mark.parametrize("program", ["A A B ?A", "A B A C ?A ?B", "A | A B ?A", "A B C ?A ?B ?C | ?B"])
def test_two_of_a_kind_never_differ(make: Callable[..., Any], program: str) -> None:
    run = trial(make(config(2)), make(config(2)))
    play(run, program)
    run.finish()
    assert charged(run) == []


# Re-agreement: one fault is one divergence, with a count


def test_a_miss_that_repeats_is_written_once_and_counted_each_time() -> None:
    run = trial(legacy(config(2)), manager(config(2)))
    play(run, "A A B ?A ?A ?A ?A")
    assert only(run).cause is Cause.SLOT_LEAK
    assert counted(run) == 4


@guards("validator/judge/ledger.py", "            marks -= {mark for mark", "            {mark for mark")
def test_a_key_that_is_set_again_is_news_again() -> None:
    run = trial(legacy(config(2)), manager(config(2)))
    play(run, "A A B ?A ?A")
    play(run, "A A B ?A ?A")
    assert [cause for cause, _ in charged(run)].count(Cause.SLOT_LEAK) == 2


class WrongOnce(DictCache):
    """Stores one key wrongly, once."""

    left = 1

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        super()._set(place, key, kv_cache)
        if key == 5 and self.left:
            self.left -= 1
            for leaf in leaves(self._pool(*place)[key]):
                leaf.tensor.add_(1)
        return 0


@guards("validator/judge/keyed.py", " or not self._repaired(side, expected):", " or True:")
def test_a_wrong_value_of_the_secondary_is_mended_and_charged_once() -> None:
    candidate = WrongOnce()
    run = trial(manager(), candidate)
    run.cache.set_recur_cache(5, entry(1))
    for _ in range(10):
        run.cache.get_recur_cache(5)
    run.finish()
    assert charged(run) == [(Cause.CORRUPTED, Fault.CANDIDATE)]
    assert counted(run) == 1
    assert leaves(candidate.get_recur_cache(5))[0].tensor[0, 0, 0, 0] == leaves(entry(1))[0].tensor[0, 0, 0, 0]


def test_a_wrong_value_of_the_primary_is_left_alone_and_counted() -> None:
    control = WrongOnce()
    run = trial(control, manager())
    run.cache.set_recur_cache(5, entry(1))
    answers = [run.cache.get_recur_cache(5) for _ in range(4)]
    run.finish()
    assert all(leaves(answer)[0].tensor[0, 0, 0, 0] == 65 for answer in answers), "the host gets what it would get"
    assert set(charged(run)) == {(Cause.CORRUPTED, Fault.CONTROL)}
    assert len(run.divergences) == 1
    assert counted(run) == 5, "the set and four lookups"


def test_a_second_fault_on_another_key_is_news() -> None:
    run = trial(manager(), WrongOnce())
    WrongOnce.left, keep = 5, WrongOnce.left
    try:
        run.cache.set_recur_cache(5, entry(1))
        run.cache.get_recur_cache(5)
        run.cache.set_init_cache(0, 5, entry(2))
        run.cache.get_init_cache(0, 5)
    finally:
        WrongOnce.left = keep
    assert len(run.divergences) == 2


# Values


class Answering(DictCache):
    """Changes every answer."""

    def __init__(self, change: Callable[[KeysValues], Any]) -> None:
        super().__init__()
        self.change = change

    def _answer(self, held: Any) -> Any:
        own = held.clone()
        changed = self.change(own)
        return own if changed is None else changed

    def policy(self) -> Any:
        return declared()


def rounded(own: KeysValues) -> None:
    for leaf in leaves(own):
        leaf.tensor.mul_(1 + 2**-20)


def cast(dtype: torch.dtype) -> Callable[[KeysValues], None]:
    def change(own: KeysValues) -> None:
        for layer in own:
            for cache in (layer._k_cache, layer._v_cache):
                cache._cache = cache._cache.to(dtype)

    return change


def region_changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[KeysValues], None]:
    def changed(own: KeysValues) -> None:
        for tensor, size in leaves(own):
            tensor[:, :, :size] = change(tensor[:, :, :size].clone())

    return changed


def lengths(k: int, v: int) -> Callable[[KeysValues], None]:
    def change(own: KeysValues) -> None:
        for layer in own:
            layer._k_cache._size += k
            layer._v_cache._size += v

    return change


def swap(own: KeysValues) -> None:
    for layer in own:
        layer._k_cache, layer._v_cache = layer._v_cache, layer._k_cache


def reverse_layers(own: KeysValues) -> None:
    own._keys_values = own._keys_values[::-1]


def drop_layer(own: KeysValues) -> None:
    own._keys_values = own._keys_values[:1]


def bend(tensor: torch.Tensor) -> torch.Tensor:
    tensor[0, 0, 0, 0] += 0.5
    return tensor


def not_looked_at_sets(run: Any) -> None:
    """Leave it to lookups to find what is wrong."""
    run.pair.sets._arrival = lambda *args: None


VALUES: dict[str, tuple[Any, Cause, Dimension]] = {
    "tokens reversed": (region_changed(lambda r: r.flip(2)), Cause.TOKENS_PERMUTED, Dimension.VALUE),
    "heads reversed": (region_changed(lambda r: r.flip(1)), Cause.TOKENS_PERMUTED, Dimension.VALUE),
    "samples reversed": (region_changed(lambda r: r.flip(0)), Cause.TOKENS_PERMUTED, Dimension.VALUE),
    "K and V swapped": (swap, Cause.LAYER_MIXED, Dimension.VALUE),
    "layers reversed": (reverse_layers, Cause.LAYER_MIXED, Dimension.VALUE),
    "a layer less": (drop_layer, Cause.SHAPE_OFF, Dimension.STRUCTURE),
    "as float64": (cast(torch.float64), Cause.DTYPE_DRIFT, Dimension.STRUCTURE),
    "as bfloat16": (cast(torch.bfloat16), Cause.DTYPE_DRIFT, Dimension.STRUCTURE),
    "one token less": (lengths(-1, -1), Cause.LENGTH_OFF, Dimension.STRUCTURE),
    "one token more": (lengths(1, 1), Cause.LENGTH_OFF, Dimension.STRUCTURE),
    "V one token less": (lengths(0, -1), Cause.LENGTH_OFF, Dimension.STRUCTURE),
    "rounded": (
        region_changed(lambda r: r.mul(0.3).to(torch.bfloat16).to(r.dtype).div(0.3)),
        Cause.ROUNDING,
        Dimension.VALUE,
    ),
    "one cell bent": (region_changed(bend), Cause.CORRUPTED, Dimension.VALUE),
    "garbage": (lambda own: "garbage", Cause.SHAPE_OFF, Dimension.STRUCTURE),
    "a number": (lambda own: 7, Cause.SHAPE_OFF, Dimension.STRUCTURE),
}


@guards("validator/judge/values.py", "if found.contents != wanted.contents and all(", "if False and all(")
def test_what_is_mixed_up_inside_an_entry_is_named_by_hashes_alone() -> None:
    run = trial(manager(), manager())
    run.cache.set_recur_cache(1, entry(1))
    side = run.pair.case.control
    stored = side.model.pool("recur", None).peek(1)
    swapped = stored.digest._replace(contents=tuple(stored.digest.contents)[::-1], whole=None)

    found = remembered(side, "recur", None, stored, swapped)

    assert found is not None
    assert found.kind is words.MIXED_UP


@guards("validator/judge/values.py", "(*before, *elsewhere)", "elsewhere")
def test_tensors_left_over_of_the_version_before_are_named_by_hashes_alone() -> None:
    run = trial(manager(), manager())
    run.cache.set_recur_cache(1, entry(1))
    run.cache.set_recur_cache(1, entry(2))
    side = run.pair.case.control
    stored = side.model.pool("recur", None).peek(1)
    new, old = tuple(stored.digest.contents), tuple(stored.previous[0].digest.contents)
    half = stored.digest._replace(contents=new[:1] + old[1:], whole=None)

    found = remembered(side, "recur", None, stored, half)

    assert found is not None
    assert found.kind is words.SOME_OF_BEFORE


@guards("validator/judge/values.py", "if structure is not None:", "if False:")
@guards(
    "validator/judge/values.py",
    "if all(any(_is_permutation(a, b, dim) for dim in (2, 1, 0)) for a, b in wrong):",
    "if False:",
)
@guards("validator/judge/values.py", "if all(_is_rounding(a, b) for a, b in wrong):", "if False:")
@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("wrong", ["control", "candidate"])
def test_a_wrong_answer_has_a_name_and_an_owner(name: str, wrong: str, primary: str) -> None:
    change, cause, dimension = VALUES[name]
    sides = (Answering(change), manager()) if wrong == "control" else (manager(), Answering(change))
    run = trial(*sides, primary)
    run.cache.set_recur_cache(1, entry(1, batch=2))
    run.cache.get_recur_cache(1)
    assert charged(run)
    charge = run.divergences[0]
    assert (charge.cause, charge.fault, charge.dimension) == (cause, Fault(wrong), dimension)
    assert set(charged(run)) == {(cause, Fault(wrong))}


@guards(
    "validator/judge/referee.py",
    'return Finding(words.NO_ENTRY_ANSWERED, {"type": type(answer).__name__})',
    "return None",
)
@pytest.mark.parametrize("name", ["garbage", "a number"])
def test_an_answer_that_is_no_entry_is_named_at_the_lookup_where_no_set_was_looked_at(name: str) -> None:
    change, cause, dimension = VALUES[name]
    run = trial(manager(), Answering(change))
    not_looked_at_sets(run)
    run.cache.set_recur_cache(1, entry(1))
    run.cache.get_recur_cache(1)
    charge = only(run)
    assert (charge.cause, charge.fault, charge.dimension) == (cause, Fault.CANDIDATE, dimension)


@guards("validator/observe/lookups.py", "self._suspect = self._control.digest(mine) != stored.digest", "pass")
@guards(
    "validator/observe/lookups.py",
    "self._suspect = known.whole != whole or known.layout != layout.at(size)[1]",
    "pass",
)
@guards(
    "validator/judge/referee.py",
    "if one is not None and other is not None and one.kind.cause is other.kind.cause:",
    "if False:",
)
@pytest.mark.parametrize("name", [name for name in VALUES if name not in ("garbage", "a number")])
def test_agreement_on_a_wrong_value_is_charged_to_both(name: str) -> None:
    change, cause, _ = VALUES[name]
    run = trial(Answering(change), Answering(change))
    not_looked_at_sets(run)
    run.cache.set_recur_cache(1, entry(1, batch=2))
    run.cache.get_recur_cache(1)
    charge = only(run)
    assert charge.fault is Fault.BOTH
    # Nobody holds the right values any more, so how these differ from them can't be told.
    assert charge.cause in (cause, Cause.CORRUPTED)
    assert charge.explanation.startswith("Both sides: ")


def test_agreement_on_a_wrong_value_is_seen_whatever_the_order_of_checks() -> None:
    change, _, _ = VALUES["one cell bent"]
    run = trial(Answering(change), Answering(change))
    run.cache.set_recur_cache(1, entry(1))
    run.cache.get_recur_cache(1)
    assert run.divergences
    assert {charge.fault for charge in run.divergences} <= {Fault.BOTH, Fault.CONTROL, Fault.CANDIDATE}


def test_the_leaves_that_differ_go_with_the_charge() -> None:
    def bend_one(own: KeysValues) -> None:
        own[1]._v_cache._cache[0, 1, 2, 1] += 2

    run = trial(manager(), Answering(bend_one))
    not_looked_at_sets(run)
    run.cache.set_recur_cache(1, entry(1))
    run.cache.get_recur_cache(1)
    (leaf,) = run.divergences[0].leaves
    assert (leaf.layer, leaf.part, leaf.n_mismatched, leaf.max_abs_diff) == (1, "V", 1, 2.0)
    assert leaf.max_abs_index == (0, 1, 2, 1)


@guards(
    "validator/observe/handed_out.py",
    "stored.digest if exact else self._digest(case.secondary, secondary, stored, late)",
    "stored.digest",
)
def test_under_a_tolerance_rounding_is_no_divergence_but_is_counted() -> None:
    run = trial(manager(), Answering(rounded), rtol=1e-3, atol=1e-3)
    run.cache.set_recur_cache(1, entry(1))
    run.cache.get_recur_cache(1)
    run.finish()
    assert charged(run) == []
    assert run.pair.case.counters.coverage["equal only within tolerance"] == 1


def test_a_tolerance_excuses_no_value_beyond_it() -> None:
    run = trial(manager(), Answering(VALUES["one cell bent"][0]), rtol=1e-4, atol=1e-4)
    run.cache.set_recur_cache(1, entry(1))
    run.cache.get_recur_cache(1)
    assert set(charged(run)) == {(Cause.CORRUPTED, Fault.CANDIDATE)}


class Showing(Answering):
    """Changes every answer, and lets itself be looked into."""

    def peek(self, pool: str, env_id: int | None, cache_key: int) -> Any:
        return self._pool(*((pool,) if env_id is None else (pool, env_id))).get(cache_key)


@guards("validator/judge/referee.py", "        if self.lossy(truth, leaves):\n            return None\n", "")
def test_a_side_within_the_tolerance_is_not_charged_where_the_other_is_beyond_it() -> None:
    run = trial(Showing(VALUES["one cell bent"][0]), Answering(rounded), rtol=1e-4, atol=1e-4)
    run.cache.set_recur_cache(1, entry(1))
    run.cache.get_recur_cache(1)
    assert charged(run) == [(Cause.CORRUPTED, Fault.CONTROL)]


# Which keys are alive


@guards("validator/judge/referee.py", "return uncalled(side, pool, env_id, key, found)", "return None")
@guards(
    "validator/judge/referee.py",
    "return unanswered(side, seen, expected, self.suspects(side, expected))",
    "return None",
)
@guards(
    "validator/judge/presence.py", "oldest_gone = full and gone == sorted(gone, reverse=True)", "oldest_gone = False"
)
@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize("size", [3, 5])
def test_a_pool_of_another_size_than_agreed_is_off(size: int, primary: str) -> None:
    run = trial(manager(), DictCache(init=size), primary)
    for key in range(1, 10):
        run.cache.set_init_cache(0, key, entry(key))
        for each in range(1, key + 1):
            run.cache.get_init_cache(0, each)
    assert charged(run)
    assert set(charged(run)) == {(Cause.CAPACITY_OFF, Fault.CANDIDATE)}


class Lru(Undeclared):
    """Evicts by recency and does not say so."""

    def _get(self, place: tuple[Any, ...], key: int) -> Any:
        pool = self._pool(*place)
        if key in pool:
            pool[key] = pool.pop(key)
        return super()._get(place, key)

    def _set(self, place: tuple[Any, ...], key: int, kv_cache: Any) -> int:
        pool = self._pool(*place)
        if key in pool:
            pool[key] = pool.pop(key)
        return super()._set(place, key, kv_cache)


class DeclaredLru(Lru):
    def policy(self) -> Any:
        return declared("lru")


def recency_program(run: Trial) -> None:
    for key in range(1, 5):
        run.cache.set_init_cache(0, key, entry(key))
    run.cache.get_init_cache(0, 1)
    run.cache.set_init_cache(0, 5, entry(5))
    for key in range(1, 6):
        run.cache.get_init_cache(0, key)


@guards("validator/judge/referee.py", "of_nobody(words.POLICIES_DIFFER, kinds)", "of_nobody(words.KNOWN_TO_DIFFER)")
def test_a_declared_lru_candidate_against_fifo_is_a_difference_of_policies() -> None:
    run = trial(manager(), DeclaredLru())
    recency_program(run)
    assert set(charged(run)) == {(Cause.POLICY_DIFFERS, Fault.UNKNOWN)}
    assert "fifo (control) and lru (candidate)" in run.divergences[0].explanation


@guards(
    "validator/judge/referee.py",
    "return of_nobody(words.NOBODY_KNOWS, facts)",
    "return of_nobody(words.KNOWN_TO_DIFFER)",
)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_what_an_undeclared_side_keeps_beyond_the_other_is_charged_to_nobody(primary: str) -> None:
    run = trial(manager(), Lru(), primary)
    recency_program(run)
    assert set(charged(run)) == {(Cause.POLICY_DIFFERS, Fault.UNKNOWN)}
    assert run.divergences[0].explanation == (
        "The candidate answers this key and the control does not; nobody knows whom the candidate evicts there, so it "
        "can't be told which of them is right."
    )


@guards("validator/models/agreed.py", "    evicts_as_it_likes = True\n", "")
@pytest.mark.parametrize("made", [Undeclared, Lru])
def test_two_sides_that_declare_nothing_agree_and_reading_changes_no_age(made: type[DictCache]) -> None:
    run = trial(made(), made(), audit_share=1.0)
    assert len(run.pair.case.assumed) == 2
    assert run.pair.case.assumed[0] == (
        f"presence is judged by agreement only: control ({made.__name__}) declares no policy(), so whom it evicts is "
        "its own business; declare one by a method policy() that returns shadow.CachePolicy"
    )
    for key in range(80):
        run.cache.set_init_cache(0, key % 7, entry(key))
        run.cache.get_init_cache(0, (key * 3) % 7)
        run.cache.set_recur_cache(key % 5, entry(key + 0.5))
        run.cache.hierarchical_get(0, (key * 5) % 7)
        if key % 23 == 0:
            run.cache.clear_recur_cache()
    run.finish()
    assert charged(run) == []
    assert run.pair.counters.coverage["evictions"] > 0, "seen by their absence"


class Tiered(Undeclared):
    """Misses now and then what it answers a moment later, and clears nothing."""

    asked = 0

    def _get(self, place: tuple[Any, ...], key: int) -> Any:
        self.asked += 1
        return None if self.asked % 2 else super()._get(place, key)

    def clear_recur_cache(self) -> None:
        return


@guards("validator/models/agreed.py", "[*missed, *self.held.values()]", "self.held.values()")
def test_what_an_undeclared_side_missed_it_may_answer_again_until_it_is_cleared() -> None:
    run = trial(Tiered(), Tiered())
    run.cache.set_recur_cache(1, entry(1))
    for answered in (False, True, False, True, False):
        assert (run.cache.get_recur_cache(1) is not None) is answered
    assert charged(run) == []
    run.cache.clear_recur_cache()  # after which the candidate alone is asked, and misses
    assert run.cache.get_recur_cache(1) is not None
    assert {cause for cause, _ in charged(run)} == {Cause.CLEAR_FORGOTTEN}


@guards("validator/models/side_model.py", "(answer is not None and held.digest != answer)", "True")
def test_what_an_undeclared_init_pool_evicted_the_recurrent_one_may_answer() -> None:
    run = trial(Undeclared(), Undeclared())
    run.cache.set_recur_cache(0, entry(100))
    for key in range(5):
        run.cache.set_init_cache(0, key, entry(key))
    assert leaves(run.cache.hierarchical_get(0, 0))[0].tensor[0, 0, 0, 0] == leaves(entry(100))[0].tensor[0, 0, 0, 0]
    assert charged(run) == []


def test_a_side_that_declares_is_judged_by_its_model_beside_one_that_does_not() -> None:
    run = trial(legacy(config(2)), Undeclared())
    play(run, "A A B ?A")
    assert charged(run) == [(Cause.SLOT_LEAK, Fault.CONTROL)]
    run = trial(manager(config(2)), Undeclared())
    play(run, "A B ?C ?D ?A ?B A B ?A ?B")
    run.finish()
    assert charged(run) == []


class WronglyUndeclared(Undeclared):
    """Declares nothing and does one thing that no policy excuses."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.wrong = wrong

    def _answer(self, held: Any) -> Any:
        own = held.clone()
        if self.wrong == "value":
            leaves(own)[0].tensor[0, 0, 0, 0] += 1
        return own

    def _get(self, place: tuple[Any, ...], key: int) -> Any:
        found = super()._get(place, key)
        return entry(99) if found is None and self.wrong == "phantom" else found

    def clear_recur_cache(self) -> None:
        if self.wrong != "clear":
            super().clear_recur_cache()


@pytest.mark.parametrize(
    ("wrong", "cause"), [("value", Cause.CORRUPTED), ("phantom", Cause.PHANTOM), ("clear", Cause.CLEAR_FORGOTTEN)]
)
def test_no_policy_excuses_a_wrong_answer(wrong: str, cause: Cause) -> None:
    run = trial(Undeclared(), WronglyUndeclared(wrong))
    run.cache.set_recur_cache(1, entry(1))
    for key in (1, 9):
        run.cache.get_recur_cache(key)
    run.cache.clear_recur_cache()
    run.cache.get_recur_cache(1)
    assert charged(run)[0] == (cause, Fault.CANDIDATE)
    assert {fault for _, fault in charged(run)} == {Fault.CANDIDATE}


def test_envs_that_nobody_announced_are_judged_as_they_come() -> None:
    run = trial(Undeclared(envs=100), Undeclared(envs=100))
    for env_id in (0, 7, 99):
        run.cache.set_init_cache(env_id, 1, entry(env_id))
        run.cache.get_init_cache(env_id, 1)
        run.pair.episode_ended(env_id)
    assert set(charged(run)) == {(Cause.EPISODE_NOT_CLEARED, Fault.HOST)}
    with pytest.raises(IndexError):
        run.cache.get_init_cache(-1, 1)
    assert charged(run)[-1] == (Cause.BAD_ENV, Fault.HOST)


@pytest.mark.parametrize("primary", PRIMARIES)
def test_two_lru_caches_agree_and_reading_them_back_changes_no_age(primary: str) -> None:
    cfg = {**CONFIG, "cache_eviction_strategy": "lru"}
    run = trial(manager(cfg), DeclaredLru(), primary, audit_share=1.0)
    for key in range(60):
        run.cache.set_init_cache(0, key % 7, entry(key))
        run.cache.get_init_cache(0, (key * 3) % 7)
        run.cache.hierarchical_get(0, (key * 5) % 7)
    run.finish()
    assert charged(run) == []


def test_a_fifo_candidate_that_declares_lru_is_wrong_itself() -> None:
    class Pretender(DictCache):
        def policy(self) -> Any:
            return declared("lru")

    run = trial(manager({**CONFIG, "cache_eviction_strategy": "lru"}), Pretender())
    recency_program(run)
    assert charged(run)
    assert {fault for _, fault in charged(run)} == {Fault.CANDIDATE}


class Sized(Undeclared):
    """Declares no policy, but carries the config that says how much it may hold."""

    config, env_num = CONFIG, np.int64(2)


def test_a_side_whose_config_says_its_size_is_judged_as_fifo() -> None:
    run = trial(manager(), Sized())
    assert run.pair.case.assumed == [
        "candidate declares no policy; FIFO with CacheCapacities(init=4, recur=4, wm=2) is assumed"
    ]
    for key in range(40):
        run.cache.set_init_cache(key % 2, key % 7, entry(key))
        run.cache.set_recur_cache(key % 6, entry(key + 0.5))
        run.cache.hierarchical_get(key % 2, key % 5)
        if key % 11 == 0:
            run.cache.clear_recur_cache()
    run.finish()
    assert charged(run) == []


@guards("validator/judge/presence.py", "if gone.reason is Reason.CLEARED:", "if False:")
def test_a_third_object_that_goes_wrong_is_named_through_get_alone() -> None:
    class Leaky(DictCache):
        def clear_recur_cache(self) -> None:
            return

    run = trial(manager(), Leaky())
    run.cache.set_recur_cache(1, entry(1))
    run.cache.clear_recur_cache()
    run.cache.get_recur_cache(1)
    assert set(charged(run)) == {(Cause.CLEAR_FORGOTTEN, Fault.CANDIDATE)}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (lambda: 1 / 0, "candidate: policy() raised ZeroDivisionError, which is no shadow.CachePolicy"),
        (lambda: {"kind": "fifo"}, "candidate: policy() answered {'kind': 'fifo'}, which is no shadow.CachePolicy"),
        (lambda: declared("arc"), "candidate: policy() answered CachePolicy(kind='arc'"),
    ],
)
def test_a_policy_that_cannot_be_read_is_said_and_judged_as_none(policy: Any, said: str) -> None:
    candidate = Undeclared()
    candidate.policy = policy
    run = trial(manager(), candidate)
    assert run.pair.case.assumed[0].startswith(said)
    assert run.pair.case.assumed[1].startswith("presence is judged by agreement only: candidate (Undeclared)")


@guards("validator/judge/presence.py", "    if took:\n", "    if False:\n")
@pytest.mark.parametrize("primary", PRIMARIES)
def test_an_entry_dropped_by_a_clear_of_another_pool_is_charged_as_too_wide(primary: str) -> None:
    class Wide(DictCache):
        def clear_recur_cache(self) -> None:
            self.pools.clear()

    run = trial(manager(), Wide(), primary)
    run.cache.set_init_cache(1, 1, entry(1))
    run.cache.clear_recur_cache()
    run.cache.get_init_cache(1, 1)
    assert charged(run)[0] == (Cause.CLEAR_TOO_WIDE, Fault.CANDIDATE)
    assert len(run.divergences) == 1


# Errors


class Raising(DictCache):
    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def __getattribute__(self, name: str) -> Any:
        if name != "method" and name == object.__getattribute__(self, "__dict__").get("method"):
            raise RuntimeError(f"planted in {name}")
        return object.__getattribute__(self, name)


@guards("validator/observe/sets.py", "self._set_raised(seen)", "pass")
@guards(
    "validator/judge/referee.py",
    "if error is not None:\n            if side.model",
    "if False:\n            if side.model",
)
@guards("validator/judge/ledger.py", "if known is not None:", "if False:")
@pytest.mark.parametrize("method", ["set_recur_cache", "get_recur_cache", "clear_recur_cache"])
@pytest.mark.parametrize("wrong", ["control", "candidate"])
def test_a_side_that_raises_is_charged_with_it_and_not_with_what_follows(method: str, wrong: str) -> None:
    sides = (Raising(method), manager()) if wrong == "control" else (manager(), Raising(method))
    run = trial(*sides, "candidate" if wrong == "control" else "control")
    run.cache.set_recur_cache(1, entry(1))
    run.cache.get_recur_cache(1)
    run.cache.clear_recur_cache()
    run.cache.get_recur_cache(1)
    run.finish()
    assert set(charged(run)) == {(Cause.RAISED, Fault(wrong))}
    assert run.divergences[0].dimension is Dimension.ERROR


def test_what_both_sides_refuse_to_store_is_the_hosts_fault() -> None:
    run = trial(manager(), manager())
    bad = entry(1)
    bad[0]._k_cache._size = 99
    with pytest.raises(ValueError, match="valid length 99"):
        run.cache.set_recur_cache(1, bad)
    assert charged(run) == [(Cause.RAISED, Fault.HOST)]


@guards("validator/observe/keyed_pair.py", "self._bad_env(seen)", "pass")
@pytest.mark.parametrize("env_id", [-1, 2, 99])
@pytest.mark.parametrize("verb", ["get", "set", "hierarchical", "clear"])
def test_an_env_out_of_range_is_the_hosts_fault(env_id: int, verb: str) -> None:
    run = trial(manager(), manager())
    call: dict[str, Callable[[], Any]] = {
        "get": lambda: run.cache.get_init_cache(env_id, 1),
        "set": lambda: run.cache.set_init_cache(env_id, 1, entry(1)),
        "hierarchical": lambda: run.cache.hierarchical_get(env_id, 1),
        "clear": lambda: run.cache.clear_init_cache(env_id),
    }
    with pytest.raises(ValueError, match=r"env_id must be in \[0, 2\)"):
        call[verb]()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.BAD_ENV, Fault.HOST)
    assert f"env_id {env_id} where [0, 2) is possible" in charge.explanation


def test_a_negative_env_that_the_legacy_store_takes_is_still_the_hosts_fault() -> None:
    run = trial(legacy(), manager())
    run.cache.set_init_cache(-1, 1, entry(1))
    assert only(run).cause is Cause.BAD_ENV
    assert "the control accepted it, the candidate raised ValueError" in only(run).explanation


# Memory that went to somebody else


@guards("validator/judge/referee.py", " and given[-1].first() is first", "")
def test_memory_that_was_given_once_and_is_somebody_elses_now_proves_no_reference() -> None:
    run = trial(manager(config(4)), manager(config(4)))
    memory = torch.arange(64.0)

    def over(number: float) -> KeysValues:
        """An entry in that memory, as an allocator that reuses it would make one."""
        made = entry(number)
        found = leaves(made)
        width = found[0].tensor.numel()
        for index, layer in enumerate(made):
            for part, cache in enumerate((layer._k_cache, layer._v_cache)):
                at = (2 * index + part) * width
                buffer = memory[at : at + width].view(found[0].tensor.shape)
                cache._cache = buffer.copy_(cache._cache)
        return made

    def blamed(key: int, answer: KeysValues) -> bool:
        primary = run.pair.case.primary
        stored = primary.model.pool("init", 0).peek(key)
        assert stored is not None
        return run.pair.case.referee.lives_in_input(primary, stored, leaves(answer))

    given = over(1)
    run.cache.set_init_cache(0, 1, given)
    assert blamed(1, given)
    del given
    again = over(2)
    assert not blamed(1, again)
    run.cache.set_init_cache(0, 2, again)
    assert blamed(2, again)
    assert not blamed(1, again), "what another set was given says nothing about this one"


@guards("validator/judge/referee.py", "if not side.lists_keys else", "if True else")
def test_a_clear_after_which_a_side_listed_the_entry_is_not_blamed_for_it() -> None:
    lossy = manager(config(4))
    run = trial(manager(config(4)), lossy)
    run.cache.set_init_cache(0, 1, entry(1))
    run.cache.clear_recur_cache()
    del lossy.init_pools[0]._key_to_index[1]
    lossy.init_pools[0]._lent.clear()
    run.cache.get_init_cache(0, 1)
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.SET_IGNORED, Fault.CANDIDATE)
    assert charge.explanation.endswith("lost this entry although nothing evicted or cleared it.")


@pytest.mark.parametrize("primary", PRIMARIES)
def test_a_clear_after_which_the_entry_was_still_there_is_not_blamed_for_it(primary: str) -> None:
    lossy = manager(config(4))
    run = trial(manager(config(4)), lossy, primary)
    run.cache.set_init_cache(0, 1, entry(1))
    run.cache.clear_recur_cache()
    assert run.cache.get_init_cache(0, 1) is not None
    del lossy.init_pools[0]._key_to_index[1]
    lossy.init_pools[0]._lent.clear()
    run.cache.get_init_cache(0, 1)
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.WRONG_EVICTION, Fault.CANDIDATE)
    assert charge.explanation.endswith(
        "dropped this entry, which it answered at operation 2, although nothing evicted or cleared it."
    )


@guards("validator/judge/referee.py", "if self.lives_in_input(side, stored, leaves) else None", "if False else None")
def test_a_reference_that_no_look_at_a_set_saw_is_named_at_the_lookup() -> None:
    class RefersLater(DictCache):
        n_stored = 0

        def _store(self, kv_cache: Any) -> Any:
            self.n_stored += 1
            return kv_cache if self.n_stored > 70 else super()._store(kv_cache)

        def _answer(self, held: Any) -> Any:
            return held

    run = trial(manager(), RefersLater(), audit_share=0.0)
    for number in range(72):  # the last two are kept by reference, and no set beyond the first 64 is looked at closely
        run.cache.set_init_cache(0, number, entry(number))
    run.cache.get_init_cache(0, 70)
    assert [cause for cause, fault in charged(run) if fault is Fault.CANDIDATE] == [Cause.ALIASED_ON_SET]


class ForgetsTheClear(Open):
    """A recurrent clear does nothing."""

    def clear_recur_cache(self) -> None:
        return


@guards("validator/judge/ledger.py", "charge.by_policy or _follows(charge, known)", "charge.by_policy")
def test_whom_a_side_evicts_that_holds_too_many_keys_already_is_counted_under_that() -> None:
    run = trial(manager(), ForgetsTheClear())
    for key in range(1, 5):
        run.cache.set_recur_cache(key, entry(key))
    run.cache.clear_recur_cache()
    for key in (5, 2, 6):  # one that should be gone is updated in place, and is the next to give way
        run.cache.set_recur_cache(key, entry(10 + key))
    assert run.cache.get_recur_cache(2) is not None
    run.finish()
    assert set(charged(run)) == {(Cause.CLEAR_FORGOTTEN, Fault.CANDIDATE)}
    assert counted(run) > len(run.divergences)


def test_what_one_clear_took_beyond_its_pool_is_one_divergence_however_many_entries_it_was() -> None:
    class ClearsTooMuch(DictCache):
        def policy(self) -> Any:
            return declared()

        def clear_recur_cache(self) -> None:
            super().clear_recur_cache()
            self._pool("init", 0).clear()

    run = trial(manager(), ClearsTooMuch())
    for key in range(3):
        run.cache.set_init_cache(0, key, entry(key))
    run.cache.clear_recur_cache()
    for key in range(3):
        run.cache.get_init_cache(0, key)

    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.CLEAR_TOO_WIDE, Fault.CANDIDATE)


@guards("validator/judge/presence.py", "after = max(expected.op_index, suspects.answered)", "after = expected.op_index")
def test_a_clear_is_not_blamed_for_what_was_answered_after_it() -> None:
    class Declared(DictCache):
        def policy(self) -> Any:
            return declared()

    lossy = Declared()
    run = trial(manager(), lossy)
    run.cache.set_init_cache(0, 1, entry(1))
    run.cache.clear_recur_cache()
    assert run.cache.get_init_cache(0, 1) is not None
    lossy._pool("init", 0).clear()
    run.cache.get_init_cache(0, 1)

    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.WRONG_EVICTION, Fault.CANDIDATE)
