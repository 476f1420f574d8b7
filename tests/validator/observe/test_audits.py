"""What nobody asked for: live keys, contents, shared memory, and the host's life cycle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from reports.record.words import Cause, Dimension, Fault
from shadow.entry import KeysValues, leaves
from tests.guards import guards
from tests.validator.sessions import open_session
from tests.validator.trials import DictCache, Open, charged, damage, entry, legacy, manager, only, trial
from validator.proof.trial import Trial

PRIMARIES = ("control", "candidate")


# Entries that nobody reads again


@guards("validator/observe/keyed_pair.py", "self._updated = self.case.now\n            self.audit()", "pass")
@guards("validator/observe/keyed_pair.py", "self.audits.before_clear(operation.pool, env_id)", "pass")
@guards(
    "validator/judge/examination.py",
    "if found is not None and side.digest(found) == stored.digest:\n            return None\n        if self",
    "return None\n        if self",
)
@guards(
    "validator/observe/audits.py",
    "self._audit_pool(side, pool, env_id, model)\n        self._handed",
    "pass\n        self._handed",
)
@guards(
    "validator/judge/values.py", "return not (_is_constant(error) or _is_constant(error / y[wrong]))", "return True"
)
@pytest.mark.parametrize("wrong", PRIMARIES)
@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize(
    "occasion", ["close", "weights_updated", "clear_all", "clear_init_caches", "clear_init_cache", "clear_recur_cache"]
)
def test_a_damaged_entry_that_is_never_read_is_found(wrong: str, primary: str, occasion: str) -> None:
    broken: Any = Open()
    sides = (broken, manager()) if wrong == "control" else (manager(), broken)
    run = trial(*sides, primary)
    run.cache.set_init_cache(1, 1, entry(1))
    run.cache.set_recur_cache(2, entry(2))
    place = ("recur",) if occasion == "clear_recur_cache" else ("init", 1)
    damage(next(iter(broken._pool(*place).values())))
    assert charged(run) == []

    if occasion == "close":
        run.finish()
    elif occasion == "weights_updated":
        run.pair.weights_updated()
    else:
        getattr(run.cache, occasion)(*((1,) if occasion == "clear_init_cache" else ()))

    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.CORRUPTED, Fault(wrong))


def test_a_clear_does_not_look_at_what_it_leaves() -> None:
    broken = Open()
    run = trial(manager(), broken)
    run.cache.set_init_cache(1, 1, entry(1))
    damage(broken._pool("init", 1)[1])
    run.cache.clear_init_cache(0)
    run.cache.clear_recur_cache()
    assert charged(run) == []


@guards("validator/observe/sets.py", "self._audits.end_set()", "pass")
def test_the_rotation_finds_damage_between_clears() -> None:
    broken = Open()
    run = trial(manager(), broken, audit_share=1.0)
    run.cache.set_init_cache(1, 1, entry(1))
    damage(broken._pool("init", 1)[1])
    for number in range(20):
        run.cache.set_recur_cache(7, entry(number))
    assert charged(run) == [(Cause.CORRUPTED, Fault.CANDIDATE)]


def test_a_share_of_none_rotates_over_nothing() -> None:
    broken = Open()
    run = trial(manager(), broken, audit_share=0.0)
    run.cache.set_init_cache(1, 1, entry(1))
    damage(broken._pool("init", 1)[1])
    for number in range(200):
        run.cache.set_recur_cache(7, entry(number))
    assert charged(run) == []
    run.finish()
    assert charged(run) == [(Cause.CORRUPTED, Fault.CANDIDATE)]


class Later(Open):
    """Sound for the first 70 sets; after them ``_replace`` says what a key that is set again leads to."""

    n_stored = 0

    def _set(self, place: tuple[Any, ...], key: int, kv_cache: Any) -> int:
        self.n_stored += 1
        pool = self._pool(*place)
        if self.n_stored > 70 and key in pool:
            pool[key] = self._replace(pool[key], kv_cache)
            return 0
        return super()._set(place, key, kv_cache)

    def _replace(self, before: KeysValues, kv_cache: Any) -> Any:
        return before


class Forgets(Open):
    """Sound for the first 70 sets; after them it stores nothing."""

    n_stored = 0

    def _set(self, place: tuple[Any, ...], key: int, kv_cache: Any) -> int:
        self.n_stored += 1
        return super()._set(place, key, kv_cache) if self.n_stored <= 70 else 0


@guards(
    "validator/judge/side_view.py",
    "return found is None or (type(found) is Unreadable and self._refused_to_show(found))",
    "return False",
)
@guards(
    "validator/observe/sets.py",
    "return not_stored(side, stored) if side.may_ask or not side.reads_copies else None",
    "return None",
)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_a_set_that_stores_nothing_is_noticed_though_few_sets_are_looked_at_closely(primary: str) -> None:
    run = trial(manager(), Forgets(), primary, audit_share=0.0)
    for number in range(70):
        run.cache.set_recur_cache(number % 2, entry(number))
    assert charged(run) == []
    run.cache.set_recur_cache(7, entry(70))
    assert charged(run) == [(Cause.SET_IGNORED, Fault.CANDIDATE)]


class Half(Later):
    def _replace(self, before: KeysValues, kv_cache: Any) -> Any:
        made = kv_cache.clone()
        made[1]._v_cache._cache[0, 0, 0] = before[1]._v_cache._cache[0, 0, 0]
        return made


class Refers(Later):
    def _replace(self, before: KeysValues, kv_cache: Any) -> Any:
        return kv_cache


@guards("validator/judge/examination.py", "own is not None and not own.overlaps(dense)", "own is not None")
@pytest.mark.parametrize("primary", PRIMARIES)
def test_one_of_the_first_sets_that_keeps_what_it_is_given_is_charged_at_once(primary: str) -> None:
    refers = Refers()
    refers.n_stored = 70
    run = trial(manager(), refers, primary)
    for number in range(2):
        run.cache.set_init_cache(0, 1, entry(number))
    assert charged(run) == [(Cause.ALIASED_ON_SET, Fault.CANDIDATE)]


@guards("validator/judge/referee.py", "and self._copies_input(side, expected, found)", "and False")
@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize("occasion", ["get_init_cache", "clear_init_cache", "finish"])
@pytest.mark.parametrize(
    ("wrong", "cause"), [(Later, Cause.RESET_IGNORED), (Half, Cause.CORRUPTED), (Refers, Cause.ALIASED_ON_SET)]
)
def test_what_a_key_is_set_to_again_is_found_at_the_next_look_though_few_sets_are_looked_at(
    wrong: type[Later], cause: Cause, occasion: str, primary: str
) -> None:
    run = trial(manager(), wrong(), primary, audit_share=0.0)
    for number in range(70):
        run.cache.set_init_cache(0, 1, entry(number))
    given = entry(70)
    run.cache.set_init_cache(0, 1, given)
    damage(given)  # the host's own to write to, as the memory of the private copy is the next entry's
    run.cache.set_recur_cache(2, entry(71))
    assert charged(run) == []
    if occasion == "finish":
        run.finish()
    else:
        getattr(run.cache, occasion)(*((0, 1) if occasion == "get_init_cache" else (0,)))
    assert charged(run) == [(cause, Fault.CANDIDATE)]


def test_a_key_that_is_set_to_what_it_holds_may_well_ignore_it() -> None:
    run = trial(manager(), Later(), audit_share=0.0)
    for _ in range(80):
        run.cache.set_init_cache(0, 1, entry(1))
    run.cache.get_init_cache(0, 1)
    run.finish()
    assert charged(run) == []


@pytest.mark.parametrize("pool", [("init", 0), ("init", 1), ("recur",), ("wm",)], ids=str)
def test_every_pool_is_audited(pool: tuple[Any, ...]) -> None:
    broken = Open()
    run = trial(manager(), broken)
    getattr(run.cache, f"set_{pool[0]}_cache")(*pool[1:], 1, entry(1))
    damage(broken._pool(*pool)[1])
    run.finish()
    assert charged(run) == [(Cause.CORRUPTED, Fault.CANDIDATE)]


def test_without_peek_audits_ask_through_get() -> None:
    broken = DictCache()
    run = trial(manager(), broken)
    run.cache.set_recur_cache(1, entry(1))
    damage(broken._pool("recur")[1])
    run.finish()
    assert charged(run) == [(Cause.CORRUPTED, Fault.CANDIDATE)]


@guards(
    "validator/judge/examination.py",
    "return lost(side, stored, referee.suspects(side, stored, just_cleared))",
    "return None",
)
def test_an_entry_that_vanished_is_found() -> None:
    broken = Open()
    run = trial(manager(), broken)
    for key in (1, 2):
        run.cache.set_recur_cache(key, entry(key))
    del broken._pool("recur")[2]
    run.finish()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.SET_IGNORED, Fault.CANDIDATE)


@guards(
    "validator/observe/audits.py",
    "for key in keys:\n            if model.peek(key) is not None or ledger",
    "for key in ():\n            if model.peek(key) is not None or ledger",
)
def test_a_key_that_should_be_gone_is_found_by_the_audit_alone() -> None:
    broken = Open(recur=9)
    run = trial(manager(), broken)
    for key in range(6):
        run.cache.set_recur_cache(key, entry(key))
    run.finish()
    assert set(charged(run)) == {(Cause.CAPACITY_OFF, Fault.CANDIDATE)}


@guards("validator/observe/keyed_pair.py", "self.audits.after_clear(pool, env_id)", "pass")
def test_a_clear_that_is_forgotten_is_found_right_after_it() -> None:
    class Forgetful(Open):
        def clear_recur_cache(self) -> None:
            return

    run = trial(manager(), Forgetful())
    run.cache.set_recur_cache(1, entry(1))
    run.cache.clear_recur_cache()
    assert charged(run) == [(Cause.CLEAR_FORGOTTEN, Fault.CANDIDATE)]


def test_a_clear_that_is_forgotten_is_found_without_live_keys_too() -> None:
    class Forgetful(DictCache):
        def clear_recur_cache(self) -> None:
            return

    run = trial(manager(), Forgetful())
    run.cache.set_recur_cache(1, entry(1))
    run.cache.clear_recur_cache()
    assert charged(run) == [(Cause.CLEAR_FORGOTTEN, Fault.CANDIDATE)]


def test_a_clear_that_wipes_too_much_is_found_right_after_it() -> None:
    class Wide(Open):
        def clear_init_cache(self, env_id: int) -> None:
            self.clear_init_caches()

    run = trial(manager(), Wide())
    for env_id in (0, 1):
        run.cache.set_init_cache(env_id, 1, entry(env_id))
    run.cache.clear_init_cache(0)
    assert charged(run) == [(Cause.CLEAR_TOO_WIDE, Fault.CANDIDATE)]


def test_weights_that_move_again_with_nothing_in_between_are_audited_once(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        cache = lockstep.shadow(control=manager(), candidate=manager())
        pair, audits = lockstep.pairs[0], []
        for _ in range(2):
            cache.set_recur_cache(1, entry(1))
            before = pair.harness_ns
            lockstep.weights_updated()
            assert pair.harness_ns > before  # what an audit takes is said to be overhead
            lockstep.weights_updated()
            audits.append(pair.counters.coverage["audits_full"])
    assert audits == [1, 2]
    assert pair.case.weight_version == 4


def test_audits_are_counted() -> None:
    run = trial(manager(), manager())
    for key in range(3):
        run.cache.set_recur_cache(key, entry(key))
    before = run.pair.case.counters.coverage["entries_audited"]
    run.finish()
    assert run.pair.case.counters.coverage["entries_audited"] - before == 6
    assert run.pair.case.counters.coverage["audits_full"] == 1


def test_an_entry_that_raises_when_it_is_read_back_is_named() -> None:
    class Moody(Open):
        moody = False

        def _answer(self, held: Any) -> Any:
            if self.moody:
                raise OSError("gone")
            return super()._answer(held)

        peek = None  # type: ignore[assignment]

    broken = Moody()
    run = trial(manager(), broken)
    run.cache.set_recur_cache(1, entry(1))
    broken.moody = True
    run.finish()
    assert charged(run) == [(Cause.RAISED, Fault.CANDIDATE)]
    assert "OSError" in only(run).explanation


def test_an_entry_that_became_something_else_is_named() -> None:
    broken = Open()
    run = trial(manager(), broken)
    run.cache.set_recur_cache(1, entry(1))
    broken._pool("recur")[1] = [1, 2]
    broken._answer = lambda held: held  # type: ignore[method-assign]
    run.finish()
    assert charged(run) == [(Cause.SHAPE_OFF, Fault.CANDIDATE)]


# Whose memory it is


class ByReference(Open):
    def _store(self, kv_cache: Any) -> Any:
        return kv_cache


class SharedKeys(Open):
    """Copies values, keeps a reference to the keys of the last layer."""

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        own[1]._k_cache._cache = kv_cache[1]._k_cache._cache
        return own


@guards("validator/judge/examination.py", "if overlap(found, given_leaves) and not", "if False and not")
@pytest.mark.parametrize("make", [ByReference, SharedKeys])
@pytest.mark.parametrize("wrong", PRIMARIES)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_a_stored_reference_is_named_at_the_first_set(make: Any, wrong: str, primary: str) -> None:
    sides = (make(), manager()) if wrong == "control" else (manager(), make())
    run = trial(*sides, primary)
    run.cache.set_recur_cache(1, entry(1))
    charge = only(run)
    assert (charge.cause, charge.fault, charge.dimension) == (
        Cause.ALIASED_ON_SET,
        Fault(wrong),
        Dimension.ISOLATION,
    )


def test_a_cache_that_hides_its_references_is_found_once_the_input_changes() -> None:
    class Hidden(DictCache):
        def _store(self, kv_cache: Any) -> Any:
            return kv_cache

    run = trial(manager(), Hidden())
    scratch = entry(1)
    for number in range(1, 4):
        for own, fresh in zip(leaves(scratch), leaves(entry(number)), strict=True):
            own.tensor.copy_(fresh.tensor)
        run.cache.set_recur_cache(number, scratch)
    for number in range(1, 4):
        run.cache.get_recur_cache(number)
    assert charged(run)
    # Its answers are copies and it shows no entry itself: that the entry is that of the key set last is all there is.
    assert set(charged(run)) == {(Cause.OTHER_KEY, Fault.CANDIDATE)}


@guards("validator/observe/audits.py", "        self._look_for_sharing()\n", "")
def test_two_entries_in_one_memory_are_found_although_their_values_agree() -> None:
    class OneBuffer(Open):
        def _store(self, kv_cache: Any) -> Any:
            for pool in self.pools.values():
                for held in pool.values():
                    return held
            return kv_cache.clone()

    run = trial(manager(), OneBuffer())
    run.cache.set_init_cache(0, 1, entry(1))
    run.cache.set_recur_cache(2, entry(1))
    run.finish()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.SHARED_SLOT, Fault.CANDIDATE)
    assert "0000000000000001" in charge.explanation
    assert "0000000000000002" in charge.explanation


def test_two_sides_that_keep_one_memory_are_found() -> None:
    common: list[Any] = []

    class Common(Open):
        def _store(self, kv_cache: Any) -> Any:
            if not common:
                common.append(kv_cache.clone())
            return common[0]

    run = trial(Common(), Common())
    run.cache.set_recur_cache(1, entry(1))
    run.finish()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.SHARED_SLOT, Fault.UNKNOWN)
    assert "Control and candidate" in charge.explanation


class EditsInput(Open):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        leaves(kv_cache)[0].tensor.add_(1)
        return own


class EmptiesInput(Open):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        kv_cache._keys_values = ()
        return own


class DeletesInput(Open):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        del kv_cache._keys_values[0]._k_cache._cache
        return own


class ShortensInput(Open):
    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        kv_cache._keys_values[0]._v_cache._size = 1
        return own


@guards(
    "validator/judge/examination.py",
    "if given_leaves is None or not (_holds(given, stored) or side.digest(given_leaves) == stored.digest):",
    "if False:",
)
@pytest.mark.parametrize("make", [EditsInput, EmptiesInput, DeletesInput, ShortensInput])
@pytest.mark.parametrize("wrong", PRIMARIES)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_an_input_that_a_side_edits_is_charged_to_it(make: Any, wrong: str, primary: str) -> None:
    sides = (make(), manager()) if wrong == "control" else (manager(), make())
    run = trial(*sides, primary)
    for number in range(1, 5):
        run.cache.set_recur_cache(number, entry(number))
        run.cache.get_recur_cache(number)
    assert set(charged(run)) == {(Cause.INPUT_EDITED, Fault(wrong))}


# The host's life cycle


def filled(run: Trial) -> Trial:
    for env_id in (0, 1):
        run.cache.set_init_cache(env_id, 1, entry(env_id))
    run.cache.set_recur_cache(1, entry(5))
    return run


def test_an_episode_end_that_cleared_its_env_is_right() -> None:
    run = filled(trial(legacy(), manager()))
    run.cache.clear_init_cache(1)
    run.pair.episode_ended(1)
    assert charged(run) == []


@guards(
    "validator/observe/audits.py",
    "if left:\n                self._charge_host(words.EPISODE",
    "if False:\n                self._charge_host(words.EPISODE",
)
def test_an_episode_end_that_left_entries_alive_is_charged_to_the_host() -> None:
    run = filled(trial(legacy(), manager()))
    run.pair.episode_ended(1)
    charge = only(run)
    assert (charge.cause, charge.fault, charge.dimension) == (
        Cause.EPISODE_NOT_CLEARED,
        Fault.HOST,
        Dimension.LIFE_CYCLE,
    )
    assert "env 1 and left 1 entries" in charge.explanation


@guards("validator/observe/audits.py", "if others:", "if False:")
@pytest.mark.parametrize("clear", ["clear_all", "clear_init_caches"])
def test_an_episode_end_whose_clear_wiped_other_envs_is_charged_to_the_host(clear: str) -> None:
    run = filled(trial(legacy(), manager()))
    getattr(run.cache, clear)()
    run.pair.episode_ended(1)
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.CLEAR_TOO_WIDE, Fault.HOST)
    assert "wiped live entries of envs [0]" in charge.explanation


def test_an_episode_end_that_cleared_another_env_is_charged_twice() -> None:
    run = filled(trial(legacy(), manager()))
    run.cache.clear_init_cache(0)
    run.pair.episode_ended(1)
    assert sorted(cause.value for cause, _ in charged(run)) == [
        Cause.CLEAR_TOO_WIDE.value,
        Cause.EPISODE_NOT_CLEARED.value,
    ]


def test_a_clear_of_everything_before_other_work_is_no_episode_clear() -> None:
    run = filled(trial(legacy(), manager()))
    run.cache.clear_all()
    run.pair.weights_updated()
    run.pair.episode_ended(1)
    assert charged(run) == []


def test_an_episode_end_of_an_unknown_env_is_survived() -> None:
    run = trial(legacy(), manager())
    run.pair.episode_ended(7)
    run.pair.episode_ended(-1)
    assert charged(run) == []


@guards(
    "validator/observe/audits.py",
    "if left:\n                self._charge_host(words.SEARCH",
    "if False:\n                self._charge_host(words.SEARCH",
)
def test_a_search_that_did_not_clear_is_charged_to_the_host() -> None:
    run = filled(trial(legacy(), manager()))
    run.pair.search_started()
    charge = only(run)
    assert (charge.cause, charge.fault) == (Cause.SEARCH_NOT_CLEARED, Fault.HOST)


def test_a_search_that_cleared_is_right() -> None:
    run = filled(trial(legacy(), manager()))
    run.cache.clear_recur_cache()
    run.pair.search_started()
    assert charged(run) == []


@guards(
    "validator/observe/lookups.py",
    "self._look_for_staleness(seen, one)\n                return\n        if self._looks",
    "pass\n                return\n        if self._looks",
)
@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize("pool", ["init", "recur", "wm", "hierarchical"])
def test_a_hit_that_crosses_a_weight_update_is_stale_though_both_agree(pool: str, primary: str) -> None:
    run = trial(legacy(), manager(), primary)
    stored = "init" if pool == "hierarchical" else pool
    first = (0,) if stored == "init" else ()
    getattr(run.cache, f"set_{stored}_cache")(*first, 1, entry(1))
    run.pair.weights_updated()
    (run.cache.hierarchical_get if pool == "hierarchical" else getattr(run.cache, f"get_{pool}_cache"))(*first, 1)
    charge = only(run)
    assert (charge.cause, charge.fault, charge.dimension) == (Cause.STALE_WEIGHTS, Fault.HOST, Dimension.STALENESS)
    assert "before weight update 1" in charge.explanation


def test_a_hit_that_crosses_an_episode_end_is_stale_though_both_agree() -> None:
    run = trial(legacy(), manager())
    run.cache.set_init_cache(1, 1, entry(1))
    run.pair.episode_ended(0)
    run.cache.get_init_cache(1, 1)
    assert charged(run) == [], "the end of another env's episode is nothing to it"
    run.pair.episode_ended(1)
    run.cache.get_init_cache(1, 1)
    assert charged(run)[-1] == (Cause.STALE_EPISODE, Fault.HOST)
    assert "the end of episode 0 of env 1" in run.divergences[-1].explanation


def test_what_is_stored_again_is_fresh() -> None:
    run = trial(legacy(), manager())
    run.cache.set_recur_cache(1, entry(1))
    run.pair.weights_updated()
    run.cache.set_recur_cache(1, entry(2))
    run.cache.get_recur_cache(1)
    assert charged(run) == []


# Interrupts


@guards("validator/observe/pair.py", "        self._torn = True\n", "")
def test_after_an_interrupt_nothing_is_audited_and_the_run_is_known_to_be_torn() -> None:
    control = manager()
    run = trial(control, manager())
    run.cache.set_recur_cache(1, entry(1))

    def interrupt(*args: Any) -> Any:
        raise KeyboardInterrupt

    keep = control.set_recur_cache
    control.set_recur_cache = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.cache.set_recur_cache(2, entry(2))
    control.set_recur_cache = keep  # type: ignore[method-assign]
    run.cache.clear_recur_cache()
    run.finish()
    assert charged(run) == []
    assert run.pair.case.counters.dropped == {"operations interrupted half-way": 1}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wrong", PRIMARIES)
def test_an_interrupted_set_leads_to_no_charge_at_all(wrong: str, seed: int) -> None:
    sides = {"control": manager(), "candidate": manager()}
    run = trial(sides["control"], sides["candidate"], seed=seed)
    broken: Any = sides[wrong]
    keep = broken.set_recur_cache

    def interrupted(key: int, kv_cache: Any) -> Any:
        if key == 3:
            raise KeyboardInterrupt
        return keep(key, kv_cache)

    broken.set_recur_cache = interrupted
    for key in range(1, 8):
        try:
            run.cache.set_recur_cache(key, entry(key))
        except KeyboardInterrupt:
            continue
    for key in range(1, 8):
        run.cache.get_recur_cache(key)
        run.cache.hierarchical_get(0, key)
    run.finish()
    assert charged(run) == []


# Deep copies, memory


def test_the_memory_of_the_harness_does_not_grow_with_the_run() -> None:
    def sizes(run: Trial) -> dict[str, int]:
        pair = run.pair
        return {
            "marks": len(pair.case.ledger._marks),
            "parted": len(pair.case.ledger._apart),
            "recent": len(pair.case.ledger.recent),
            "answered": len(pair._handed_out._custody.in_hands),
            "held": len(pair._handed_out._custody.held),
            "given": sum(map(len, pair.case.referee.given.values())),
            "clears": len(pair.case.referee.clears),
            **{
                f"{side.name}.{pool}{env}": len(model.gone) + len(model)
                for side in (pair.case.control, pair.case.candidate)
                for pool, env, model in side.model.pools()
            },
        }

    run = trial(legacy(), manager())
    shared = entry(1)

    def go(start: int, count: int) -> dict[str, int]:
        for key in range(start, start + count):
            run.cache.set_recur_cache(key, shared)
            run.cache.get_recur_cache(key)
            run.cache.get_recur_cache(key - 9)
            if key % 50 == 0:
                run.cache.clear_recur_cache()
        return sizes(run)

    first = go(0, 600)
    later = go(600, 3000)
    bounded = {"answered": 8192, "clears": 64, "held": 16}
    assert {name: size for name, size in later.items() if size > bounded.get(name, first[name])} == {}


def test_a_deep_copy_is_judged_apart() -> None:
    run = trial(manager(), manager())
    run.cache.set_recur_cache(1, entry(1))
    twin = copy.deepcopy(run.cache)
    twin.set_recur_cache(2, entry(2))
    assert twin.get_recur_cache(2) is not None
    assert run.cache.get_recur_cache(2) is None
    run.finish()
    assert charged(run) == []


def test_entries_of_no_cells_are_compared_without_complaint() -> None:
    run = trial(manager(), manager())
    empty = KeysValues.from_layers([])
    with pytest.raises(ValueError, match="no layers"):
        run.cache.set_recur_cache(1, empty)
    assert charged(run) == [(Cause.RAISED, Fault.HOST)]
    hollow = entry(1)
    for layer in hollow:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache, cache._size = torch.empty(0, 2, 4, 2), 0
    run.cache.set_recur_cache(2, hollow)
    run.cache.get_recur_cache(2)
    run.finish()
    assert len(charged(run)) == 1
