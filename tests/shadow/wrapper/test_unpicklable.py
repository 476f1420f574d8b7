"""What a host hears that pickles a watched cache: one sentence that says why not, and what to do."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch

from shadow.hosts.lightzero.taps import Tap
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.validator.sessions import open_session
from tests.validator.trials import legacy, manager


@guards("shadow/wrapper/doors/pools.py", "class ShadowCache(Unpicklable, Likeness):", "class ShadowCache(Likeness):")
def test_pickling_says_why_not_and_what_to_do(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        cache = lockstep.shadow(control=legacy(), candidate=manager())
        model = torch.nn.Linear(1, 1)
        model.__dict__["cache"] = cache
        tap = Tap({}, None, 0)  # type: ignore[arg-type]
        for name, one in (("ShadowCache", cache), ("Lockstep", lockstep), ("ShadowCache", [cache]), ("Tap", tap)):
            said = rf"^a {name} can't be pickled: it belongs to .* save model.state_dict\(\) instead of the model"
            with pytest.raises(TypeError, match=said):
                pickle.dumps(one)
        with pytest.raises(TypeError, match="can't be pickled: it belongs to the validation"):
            torch.save(model, io.BytesIO())
        torch.save(model.state_dict(), io.BytesIO())


def test_a_shallow_copy_is_the_cache_and_a_deep_one_a_pair_of_its_own(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        cache = lockstep.shadow(control=legacy(), candidate=manager())
        cache.set_recur_cache(1, make_entry(1))
        assert copy.copy(cache) is cache
        assert copy.deepcopy(cache).get_recur_cache(1) is not None
        assert len(lockstep.pairs) == 2
