# ruff: noqa: E501 - one mutation a line
"""Takes one check of the harness away at a time, and shows that a test fails for each: ``python tests/mutations.py``.

Not collected by pytest. Every mutation is applied in a scratch copy of the checkout and the tests that should notice
are run there; a mutation whose text is not found any more is an error, so that the list stays true to the source.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
V = "tests/validator/"
COMPARE, DIGEST, MODELS = V + "test_compare.py", V + "test_digest.py", V + "test_models.py"
TRAINING, AB, INFERIOR, RECORD = (V + f"test_{n}.py" for n in ("training_rule", "ab", "noninferiority", "record"))
REFEREE, AUDIT, GATE, UNLISTED = (V + f"test_{n}.py" for n in ("referee", "audit", "gate", "unlisted_faults"))
SHIPPED, TOO_LITTLE, WAIVERS = V + "test_shipped_policies.py", V + "test_looked_at_too_little.py", V + "test_waivers.py"
DEFERRED, LIVE = V + "test_deferred.py", V + "test_live.py"
RULES = "validator/rules/__init__"
GATE_RULES = (
    *("some_runs", "nothing_unread", "no_divergence", "waivers_hold", "of_one_mind", "complete", "readable"),
    *("nothing_dropped", "self_tested", "errors_explained", "one_candidate", "two_caches", "stages", "fresh"),
    *("committed", "exact", "exercised", "every_env", "every_layer", "every_rank", "rate_bounds", "conforms"),
    *("latency", "hit_rate", "memory", "overhead"),
)
HOST, INLINE, RUN = "shadow/hosts/lightzero/", "tests/shadow/hosts/lightzero/test_inline.py", V + "test_run_command.py"
BUDGET = V + "test_budget.py"
WINDOWS, FIRST_LINE = "tests/reports/read/test_windows.py", "tests/reports/content/test_first_line.py"
SHADOW, STAGING, SESSION = (
    "tests/shadow/wrapper/test_shadow_cache.py",
    "tests/shadow/wrapper/test_staging.py",
    V + "test_session.py",
)


class Mutation(NamedTuple):
    """One check taken away: in ``file``, ``old`` becomes ``new`` (once); ``tests`` should notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def m(name: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    return Mutation(name, f"{file}.py" if "/" in file else f"validator/{file}.py", old, new, tests)


MUTATIONS = (
    m(
        "short windows: names of the very window they mean",
        "reports/windows",
        "names is None or names.seq != windows.like",
        "names is None",
        WINDOWS,
    ),
    m(
        "short windows: as many counts as names",
        "reports/windows",
        " or len(names.names) != windows.n_names",
        "",
        WINDOWS,
    ),
    m(
        "short windows: only where they say the same",
        "reports/short",
        "return short if same and all(counts[place] for place in self.held) else None",
        "return short",
        WINDOWS,
    ),
    m(
        "short windows: names again and again",
        "reports/short",
        'window["seq"] < full.seq + FULL_EVERY and ',
        "",
        WINDOWS,
    ),
    m(
        "short windows: in full after a lost line",
        "reports/writer",
        "                self._shortener.forget()  # what is not on disk can't be referred to\n",
        "",
        WINDOWS,
    ),
    m("typed windows: what is no ASCII is read slowly", "reports/typed", " if raw.isascii() else None", "", WINDOWS),
    m("typed windows: no short one with fields unknown", "reports/typed", "forbid_unknown_fields=True, ", "", WINDOWS),
    m("typed windows: no full one with counts", "reports/typed", " and not line.keys() & _SHORT", "", WINDOWS),
    m(
        "windows added up: only under the same names",
        "reports/thinning",
        " and self.names.names is after.names.names",
        "",
        WINDOWS,
    ),
    m(
        "windows added up: what is held is not",
        "reports/thinning",
        "                self.counts[place] = count\n",
        "                pass\n",
        WINDOWS,
    ),
    m("many windows: parted by others of their pair", "reports/windows", "if apart else", "if True else", WINDOWS),
    m("many windows: in the order of their lines", "reports/windows", "sorted(parts, key=_first)", "parts", WINDOWS),
    m(
        "many windows: none after the close",
        "reports/lines",
        "[one.part(0, end) for one in tables if (end := bisect_left(one.numbers, number))]",
        "tables",
        WINDOWS,
    ),
    m(
        "many windows: sums of more than 64 bits",
        "reports/columns",
        "suppress(OverflowError)",
        "nullcontext()",
        WINDOWS,
    ),
    m("many windows: held is what was held last", "reports/columns", "if any(last):", "if False:", WINDOWS),
    m("faults in the order of their lines", "reports/lines", "in sorted(faults)", "in faults", WINDOWS),
    m("gaps in the order of their pairs", "reports/order", "[*self._latest_s]", "sorted(self._latest_s)", WINDOWS),
    m("short windows: without tables", "reports/sound", "            if tables:\n", "            if False:\n", WINDOWS),
    m(
        "first line: a candidate at fault must not ship",
        "reports/facts",
        "faults <= {Fault.CONTROL.value, Fault.HOST.value}",
        "True",
        FIRST_LINE,
    ),
    m("first line: unexplained lookups", "reports/facts", " and not unexplained(run)", "", FIRST_LINE),
    m(
        "first line: other demands that failed",
        "reports/facts",
        ' or any("diverge" not in demand.demanded for demand in failed)',
        "",
        FIRST_LINE,
    ),
    m("layers are counted", "compare", "    if len(control) != len(candidate):\n        return False\n", "", COMPARE),
    m("rung: shape", "compare", '        return "shape"', "        pass", COMPARE),
    m("rung: dtype", "compare", '        return "dtype"', "        pass", COMPARE),
    m("rung: device", "compare", '        return "device"', "        pass", COMPARE),
    m("rung: length", "compare", '        return "length"', "        pass", COMPARE),
    m("NaN is equal to NaN", "compare", " | (u.isnan() & v.isnan())", "", COMPARE),
    m("infinite controls", "compare", " & distance.isfinite()", "", COMPARE),
    m(
        "finite distances only",
        "compare",
        "            if not np.isfinite(values[at]):",
        "            if False:",
        COMPARE,
    ),
    m(
        "digest: layout",
        "digest",
        "return Digest(tuple(contents), tuple(layout))",
        "return Digest(tuple(contents), ())",
        DIGEST,
    ),
    m("digest: valid region", "digest", "region = valid(leaf)", "region = tensor.detach()", DIGEST),
    m(
        "agreement is held against the digest",
        "lookups",
        "self._suspect = self._control.digest(mine) != stored.digest",
        "pass",
        REFEREE,
    ),
    m(
        "agreement, plain entries",
        "lookups",
        "self._suspect = stored.digest != (hashes, layout.at(size)[1])",
        "pass",
        REFEREE,
        AUDIT,
    ),
    m(
        "agreement: both entries of one layout",
        "shadow/entry",
        " and here.layout is there.layout",
        "",
        "tests/shadow/test_lent.py",
    ),
    m(
        "arrival: what is not there, whichever share of sets is looked at closely",
        "side",
        "return self._peek is not None and self._peek(pool, env_id, key) is None",
        "return False",
        AUDIT,
    ),
    m(
        "windows: operations of their own alone",
        "counters",
        "        self._before = self._ops_ever()\n",
        "        self._before = dict.fromkeys(_NAMES, 0)\n",
        V + "test_windows.py",
    ),
    m(
        "plain entries: layout",
        "compare",
        "    if layout is not other.layout or size != other.size:\n        return None\n",
        "",
        DIGEST,
    ),
    m(
        "plain entries: bits",
        "compare",
        "return plain.equal(one.addresses, other.addresses, *layout.runs(size))",
        "return True",
        DIGEST,
    ),
    m(
        "stale hits",
        "lookups",
        "                    self._look_for_staleness(seen, one)\n                return\n        if pair.late",
        "                    pass\n                return\n        if pair.late",
        AUDIT,
    ),
    m(
        "lookups of both pools are those that init has nothing for",
        "lookups",
        'if pool == "hierarchical" and (one is None or one.pool != "init"):',
        'if pool == "hierarchical":',
        REFEREE,
    ),
    m("bad env", "pair", "            self._bad_env(seen)\n", "            pass\n", REFEREE),
    m("a set that raised", "sets", "            self._set_raised(seen)\n", "            pass\n", REFEREE),
    m(
        "audit at weight updates",
        "pair",
        "        self._last_clear = None\n        self.audit()\n",
        "        self._last_clear = None\n",
        AUDIT,
    ),
    m(
        "audit before clears",
        "pair",
        "            self.auditor.before_clear(operation.pool, env_id)",
        "            pass",
        AUDIT,
    ),
    m("audit after clears", "pair", "            self.auditor.after_clear(pool, env_id)", "            pass", AUDIT),
    m("torn runs are not audited", "pair", "        self._torn = True\n", "", AUDIT),
    m("rotation", "sets", "        self._auditor.end_set()\n", "", AUDIT),
    m("meddling is charged", "pair", '        self.charge(charge, Place(-1, "audit", "all"))\n', "", UNLISTED),
    m(
        "live keys in an audit",
        "audit",
        "        if keys is not None:\n            self._look_for_extra(side, pool, env_id, model, [key",
        "        if False:\n            self._look_for_extra(side, pool, env_id, model, [key",
        AUDIT,
    ),
    m(
        "contents in an audit",
        "audit",
        "        if found is not None and side.digest(found) == stored.digest:\n            return None\n        asked",
        "        return None\n        asked",
        AUDIT,
    ),
    m(
        "missing entries in an audit",
        "audit",
        "return lost(side, stored, pair.referee.suspects(side)) if side.may_ask else None",
        "return None",
        AUDIT,
    ),
    m("a clear is blamed only at once", "referee", "        if not side.lists_keys:\n", "        if True:\n", REFEREE),
    m(
        "what is sampled counts as dropped",
        "lookups",
        '            self._counters.dropped["lookups not compared, for the budget"] += 1\n',
        "",
        BUDGET,
    ),
    m("shared memory", "audit", "        self._look_for_sharing()\n", "", AUDIT),
    m(
        "input edited",
        "audit",
        "if given_leaves is None or not (_plainly(given, stored) or side.digest(given_leaves) == stored.digest):",
        "if False:",
        AUDIT,
    ),
    m(
        "aliased on set, by address",
        "audit",
        "        if storages(found) & storages(given_leaves):",
        "        if False:",
        AUDIT,
    ),
    m(
        "arrival: not stored",
        "audit",
        "return not_stored(side, stored) if side.may_ask or not side.reads_copies else None",
        "return None",
        AUDIT,
        REFEREE,
        UNLISTED,
    ),
    m(
        "episode not cleared",
        "audit",
        '        if left:\n            text = f"The host ended',
        '        if False:\n            text = f"The host ended',
        AUDIT,
    ),
    m("episode clear too wide", "audit", "            if others:\n", "            if False:\n", AUDIT),
    m(
        "search not cleared",
        "audit",
        '        if left:\n            text = f"The host began',
        '        if False:\n            text = f"The host began',
        AUDIT,
    ),
    m(
        "close audits all",
        "audit",
        "        for side in self._sides():\n            for pool, env_id, model in side.model.pools():\n                self._audit_pool(side, pool, env_id, model)\n        self._look",
        "        self._look",
        AUDIT,
    ),
    m(
        "the host may have done it",
        "audit",
        "            charge = charge._replace(fault=Fault.UNKNOWN)\n",
        "            pass\n",
        AUDIT,
    ),
    m(
        "held results of the secondary",
        "held",
        "            if found.digest(side) != before:",
        "            if False:",
        AUDIT,
    ),
    m(
        "watched results of the primary",
        "held",
        "            self._charge_change(self._pair.primary, watch.stored)",
        "            pass",
        AUDIT,
    ),
    m(
        "host writes into results",
        "held",
        "            self._host_wrote(watch, self._is_stored(watch))",
        "            pass",
        AUDIT,
    ),
    m(
        "held results: what can be looked into is not asked",
        "held",
        "if primary.shows_nothing(stored.pool, stored.env_id, stored.key):",
        "if False:",
        DEFERRED,
    ),
    m("host's own copies", "held", "            return  # it was the host's own copy", "            pass", AUDIT),
    m("lossy results", "held", "stored.digest if exact else found.digest(pair.secondary)", "stored.digest", REFEREE),
    m(
        "both in one charge",
        "referee",
        "if one is not None and other is not None and one.cause is other.cause:",
        "if False:",
        REFEREE,
    ),
    m(
        "answers of no entry",
        "referee",
        "        if leaves is None:\n            return Finding(",
        "        if leaves is None:\n            return None\n            return Finding(",
        REFEREE,
        UNLISTED,
    ),
    m(
        "raised",
        "referee",
        "        if error is not None:\n            text =",
        "        if False:\n            text =",
        REFEREE,
    ),
    m(
        "answers that should be gone",
        "referee",
        "            return uncalled(side, pool, env_id, key, found)",
        "            return None",
        REFEREE,
        UNLISTED,
    ),
    m(
        "misses that should hit",
        "referee",
        "            return unanswered(side, seen, expected, self.suspects(side))",
        "            return None",
        REFEREE,
        UNLISTED,
    ),
    m(
        "the tolerance",
        "referee",
        "        if self.lossy(truth, leaves):\n            return None\n",
        "",
        REFEREE,
        V + "test_findings.py",
    ),
    m(
        "lives in its input",
        "referee",
        "        if self.lives_in_input(side, leaves) or self",
        "        if self",
        REFEREE,
        UNLISTED,
        V + "test_selftest.py",
    ),
    m("copies of its input", "referee", " or self._copies_input(side, expected, found)", "", AUDIT),
    m(
        "quirks L1 to L4",
        "referee",
        "                if gone is not None and gone.reason in QUIRKS",
        "                if False and gone is not None and gone.reason in QUIRKS",
        REFEREE,
    ),
    m("policies differ", "referee", "            Cause.POLICY_DIFFERS,", "            Cause.UNKNOWN,", REFEREE),
    m("wrong eviction", "diagnose", "    if extra is not None:", "    if False:", REFEREE, UNLISTED),
    m("clear too wide", "diagnose", "    if later and not any(", "    if False and not any(", REFEREE, AUDIT),
    m("clear forgotten", "diagnose", "        if gone.reason is Reason.CLEARED:", "        if False:", REFEREE, AUDIT),
    m("capacity off", "diagnose", "    if full and gone == sorted(gone, reverse=True):", "    if False:", REFEREE),
    m(
        "wrong pool order",
        "diagnose",
        'if seen.operation.pool == "hierarchical" and',
        "if False and",
        V + "test_selftest.py",
    ),
    m("re-set ignored", "findings", "                if version.alive:", "                if False:", UNLISTED),
    m(
        "another key's entry",
        "findings",
        "            return foreign(owner, asked, env_id, expected.key)",
        "            pass",
        UNLISTED,
    ),
    m(
        "another env's entry",
        "findings",
        'if owner.pool == "init" and env_id is not None and owner.env_id != env_id:',
        "if False:",
        UNLISTED,
        V + "test_selftest.py",
    ),
    m(
        "layers mixed",
        "findings",
        "    if found.contents != wanted.contents and all(",
        "    if False and all(",
        REFEREE,
    ),
    m("structure named", "findings", "    if structure is not None:\n", "    if False:\n", REFEREE),
    m(
        "permutations",
        "findings",
        "    if all(any(_is_permutation(a, b, dim) for dim in (2, 1, 0)) for a, b in wrong):",
        "    if False:",
        REFEREE,
    ),
    m("rounding", "findings", "    if all(_is_rounding(a, b) for a, b in wrong):", "    if False:", REFEREE),
    m(
        "shifts are no rounding",
        "findings",
        "return not (_is_constant(error) or _is_constant(error / y[wrong]))",
        "return True",
        AUDIT,
    ),
    m(
        "partial copies",
        "findings",
        "    if all(tails):",
        "    if False:",
        V + "test_state_machine.py",
        V + "test_selftest.py",
    ),
    m(
        "one fault, one record",
        "ledger",
        "        if mark in self._marks:\n            return False\n",
        "",
        V + "test_ledger.py",
        REFEREE,
        AUDIT,
        V + "test_conformance.py",
    ),
    m("consequences are repeats", "ledger", "            if known is not None:\n", "            if False:\n", REFEREE),
    m("a re-set is news again", "ledger", "                del self._marks[mark]", "                pass", REFEREE),
    m("repair of the secondary", "settle", "and _give(side, expected, right):", "and False:", REFEREE),
    m("ab: whole", "validator/rules/training", "    yield from _whole(trainings)\n", "", TRAINING),
    m("ab: some", "validator/rules/training", "    if not evidence.trainings:", "    if False:", TRAINING),
    m(
        "ab: same caches",
        "validator/rules/training",
        "    same = candidate == usual and",
        "    same = True or",
        TRAINING,
    ),
    m("ab: same candidate", "validator/rules/training", "candidate == usual and", "", TRAINING),
    m("ab: same control", "validator/rules/training", " and control <= controls", "", TRAINING),
    m("ab: not itself", "validator/rules/training", " and control != candidate", "", TRAINING),
    m("ab: known source", "validator/rules/training", " and known", "", TRAINING),
    m("ab: fresh", "validator/rules/training", "        yield _fit(trainings, evidence, policy)\n", "", TRAINING),
    m("ab: clean", "validator/rules/training", "    if policy.runs.clean_commit:\n", "    if False:\n", TRAINING),
    m("ab: every training ends", "validator/rules/training", "    yield from _ended(trainings)\n", "", TRAINING),
    m(
        "ab: whose failure",
        "validator/rules/training",
        "bool(candidate.error and not control.error)",
        "False",
        TRAINING,
    ),
    m(
        "ab: failed trainings don't count",
        "validator/rules/training",
        "if not any(training.error for training in pair)]",
        "]",
        TRAINING,
    ),
    m("ab: seeds", "validator/rules/training", "len(counting) >= policy.seeds", "True", TRAINING),
    m("ab: digests", "validator/rules/training", "if control.digests != candidate.digests]", "if False]", TRAINING),
    m(
        "ab: trajectory recorded",
        "validator/rules/training",
        "not all(training.digests for",
        "False and all(training.digests for",
        TRAINING,
    ),
    m(
        "ab: not measured",
        "validator/rules/training",
        "    if found is None:\n        remedy",
        "    if False:\n        remedy",
        TRAINING,
    ),
    m("ab: worst end decides", "noninferiority", "if worst <= margin", "if best <= margin", INFERIOR),
    m("ab: best end fails", "noninferiority", "if best > margin", "if worst > margin", INFERIOR),
    m("ab: direction", "noninferiority", "(-high, -low) if higher_is_better else (low, high)", "(low, high)", INFERIOR),
    m("ab: no share of 0", "noninferiority", "if low is None or high is None", "if False", INFERIOR),
    m("ab: order", "validator/ab/series", "SIDES if index % 2 == 0 else SIDES[::-1]", "SIDES", AB),
    m("ab: exit codes", "validator/ab/series", "process.returncode and not", "False and not", AB),
    m("ab: no loss", "validator/ab/meter", '"" if all(map(math.isfinite, losses)) else', '"" if True else', AB),
    m("ab: no cache", "validator/ab/meter", "    if not self.caches:\n", "    if False:\n", AB),
    m("ab: lengths", "validator/ab/trajectory", "    if len(control) != len(candidate):", "    if False:", AB),
    m(
        "ab: sealed",
        "reports/trainings",
        "json_file(path, AB_FILE, problems, problems)",
        "json_file(path, AB_FILE, problems, [])",
        AB,
    ),
    m("ab: seeds promised", "reports/trainings", "paired != sorted(seeds)", "False", AB),
    m("record: changed", "reports/evidence_files", "elif found[name] != recorded[name]:", "elif False:", RECORD),
    m("record: missing", "reports/evidence_files", "if name not in found:", "if False:", RECORD),
    m("record: added", "reports/evidence_files", "elif name not in recorded:", "elif False:", RECORD),
    m(
        "record: links",
        "reports/evidence_files",
        "if is_inside(directory, name):",
        "if (directory / name).exists():",
        RECORD,
    ),
    m(
        "record: tensors",
        "reports/evidence_files",
        '        names += [f"{EVIDENCE_DIR}',
        '        _ = [f"{EVIDENCE_DIR}',
        RECORD,
    ),
    m(
        "record: judged again",
        "validator/commands/gate_record",
        "if again.verdict is not verdict:",
        "if False:",
        RECORD,
    ),
    m(
        "record: its own seal",
        "validator/commands/gate_record",
        'changes = list(record["changed"])',
        "changes = []",
        RECORD,
    ),
    m(
        "record: kept",
        "validator/commands/gate_record",
        "        if os.path.lexists(file):",
        "        if False:",
        RECORD,
    ),
    m("record: names", "validator/commands/gate_record", '".." not in Path(name).parts and', "True and", RECORD),
    m(
        "record: a fail stays",
        "validator/commands/gate_record",
        "Verdict.FAIL if verdict is Verdict.FAIL else",
        "",
        RECORD,
    ),
    *(
        m(f"gate: {name}", RULES, f"    {name},\n    {following},\n", f"    {following},\n", SHIPPED)
        for name, following in pairwise(GATE_RULES)
        if name != "committed"
    ),
    m("gate: committed", RULES, "    fresh,\n    committed,\n", "    fresh,\n", SHIPPED),
    m("gate: overhead", RULES, "    memory,\n    overhead,\n", "    memory,\n", SHIPPED),
    m("a run is sealed", "reports/json_file", "    if not is_sealed(data):\n", "    if False:\n", TOO_LITTLE),
    m("lines are sealed", "reports/lines", "(found or self.is_sealed)", "(found or True)", TOO_LITTLE),
    m(
        "lines name their run",
        "reports/consistency",
        "if lines.close is not None and lines.close",
        "if {} and 0",
        TOO_LITTLE,
    ),
    m("a clock goes forward", "reports/order", "if t_s < latest:", "if False:", TOO_LITTLE),
    m("links among runs", "reports/reader", "if child.is_symlink() and child.is_dir():", "if False:", TOO_LITTLE),
    m("expiry", "validator/rules/waived", "one.expires < today", "False", WAIVERS),
    m(
        "an exceeded waiver takes nothing away",
        "validator/rules/waived",
        "if waiver in found.expired or found.matched[waiver] > evidence.waivers[waiver].max_count:",
        "if waiver in found.expired:",
        WAIVERS,
    ),
    m("waivers name the candidate", "waivers", "and not self.scope.candidate:", "and False:", WAIVERS),
    m("a waiver's cause", "validator/rules/waived", "(cause, fault) == (waiver.cause, waiver.side)", "True", WAIVERS),
    m("a waiver's dimension", "validator/rules/waived", "or dimension in scope.dimensions", "or True", WAIVERS),
    m("a waiver's stage", "validator/rules/waived", 'scope.stage in ("", stage_of_pair(pair))', "True", WAIVERS),
    m(
        "one seed of streams counts once",
        "validator/rules/streams",
        "max(result.operations, operations",
        "(result.operations + operations",
        V + "test_gate_rules.py",
    ),
    m(
        "only sound runs count",
        "validator/rules/campaign",
        "if is_sound(run) and candidates(run) == usual",
        "if True",
        V + "test_gate_rules.py",
    ),
    m("episodes that are only counted", "rates", " + max(0, n_differed - len(written))", "", V + "test_rates.py"),
    m(
        "ranks prove themselves",
        "validator/rules/soundness",
        "{0: run.manifest, **run.ranks}",
        "{0: run.manifest}",
        V + "test_ranks.py",
    ),
    m(
        "secondary's errors are contained",
        "shadow/shadow_cache",
        "_SECONDARY: Contained = (Exception, SystemExit)",
        "_SECONDARY: Contained = (Exception,)",
        SHADOW,
    ),
    m(
        "surroundings are put back",
        "shadow/shadow_cache",
        "                surroundings.put_back(before)\n",
        "",
        SHADOW,
    ),
    m("secondary gets a copy", "shadow/shadow_cache", "theirs = (*args[:-1], staged)", "pass", SHADOW),
    m(
        "what was given once more is told by its tensor, not by where it lies",
        "validator/referee",
        " or given[-1].first() is not first",
        "",
        REFEREE,
    ),
    m("live figures: what waits is shown at the end", "validator/live", "not last and ", "", LIVE),
    m("live figures: what waits is added up", "validator/live", "        del self._waiting[cache]\n", "", LIVE),
    m(
        "a copy that was taken apart is not just filled again",
        "shadow/staging",
        "            or staged._keys_values is not layers\n",
        "",
        STAGING,
        SHADOW,
    ),
    m(
        "staged objects are put right",
        "shadow/staging",
        "    _restore(shell)\n    return shell.plain is None or placed",
        "    return True or placed",
        STAGING,
        SHADOW,
    ),
    m(
        "a root's miss answers no node",
        HOST + "attachment",
        "if slot is None and self._searching and tap.env_id",
        "if slot is None and tap.env_id",
        INLINE,
    ),
    m(
        "a set ends a search's question",
        HOST + "attachment",
        "self._pending, None\n        self._second = None\n",
        "self._pending, None\n",
        INLINE,
    ),
    m(
        "only the model meets the exception of a missing node",
        HOST + "inline",
        "        self.asked = False\n        slot = self.init_dicts",
        "        slot = self.init_dicts",
        INLINE,
    ),
    m(
        "only the model meets it, also after a search",
        HOST + "inline",
        "        self.asked = False\n        return self.world_model",
        "        return self.world_model",
        INLINE,
    ),
    m("the model's slot is its own dict's", HOST + "attachment", "slot = tap.raw.get(key)", "slot = None", INLINE),
    m(
        "the search's second answer is the recurrent dict's",
        HOST + "attachment",
        "self._second = (key, store.recur_dict.get(key))",
        "self._second = (key, None)",
        INLINE,
    ),
    m("replaced dicts are noticed", HOST + "attachment", "recur is self._recur_tap and", "True and", INLINE),
    m(
        "a copy without a key is said",
        HOST + "attachment",
        '            pending.make(pending.entry)\n            self._fault(f"{type(self.model).__name__} copied',
        '            pending.make(pending.entry)\n            str(f"{type(self.model).__name__} copied',
        INLINE,
    ),
    m(
        "settings out of reach are refused",
        HOST + "overrides",
        "        elif of_configs:\n",
        "        elif False:\n",
        RUN,
    ),
    m("every task is reached", HOST + "overrides", "        elif _is_tasks(given):\n", "        elif False:\n", RUN),
    m("exit codes as the system keeps them", "script", "(end.code or 0) & 0xFF", "end.code or 0", RUN),
    m(
        "hash: order",
        "fingerprint",
        "numbers * weights[: within.numel()].view(within)",
        "numbers * weights[0]",
        DEFERRED,
    ),
    m("hash: all bits", "fingerprint", "8: torch.int32}  # 64", "8: torch.int64}  # 64", DEFERRED),
    m("hash: empty and zero", "results", "tuple(map(fingerprint.unlike_empty, numbers))", "tuple(numbers)", DEFERRED),
    m(
        "one allocation",
        "shadow/entry",
        "            tensor.data_ptr() != at\n            or ",
        "            ",
        DEFERRED,
    ),
    m("irregular entries", "fingerprint", "        and length == size\n", "", DEFERRED),
    m("late: structure", "fingerprint", "        size == length\n        and ", "        ", DEFERRED),
    m("late: both sides", "late", "differ = any(counts)", "differ = False", DEFERRED),
    m(
        "late: what was stored",
        "late",
        "None if hashes == stored.digest.contents else self._finding(side, place.pool",
        "None if True else self._finding(side, place.pool",
        DEFERRED,
    ),
    m("late: what arrived", "late", "        if given != stored.digest.contents:", "        if False:", DEFERRED),
    m("late: escalation", "late", "            self._escalate(place.op_index)\n", "", DEFERRED),
    m("late: reads what is left", "late", "if now is not None and side.digest(now) == found:", "if False:", DEFERRED),
    m("late: lost lookups", "late", "+= self._lookups\n", "+= 0\n", DEFERRED),
    m(
        "late: windows wait",
        "pair",
        "        if self.late is not None:\n            self.late.flush()\n        held = {}",
        "        held = {}",
        DEFERRED,
    ),
    m(
        "late: the past comes first",
        "lookups",
        "            pair.late.flush()\n            one =",
        "            one =",
        DEFERRED,
    ),
    m(
        "late: copies are taken at once",
        "deferred",
        "copy = torch.stack([fingerprint.together(entry) for entry in entries])",
        "copy = fingerprint.together(entries[0])[None]",
        DEFERRED,
    ),
    m(
        "late: hashes are not read for counting",
        "digest",
        "if type(contents) is tuple:",
        "if True:",
        DEFERRED,
    ),
)


def main(names: list[str]) -> int:
    """Apply what is named (all without names) and print a table; return how many nobody noticed."""
    chosen = [each for each in MUTATIONS if not names or any(name in each.name for name in names)]
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        copy = Path(scratch) / "copy"
        ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "runs", ".mypy_cache", ".ruff_cache")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for each in chosen:
            path = copy / each.file
            source = path.read_text(encoding="utf-8")
            if source.count(each.old) != 1:
                print(f"| {each.name} | {each.file} | NOT FOUND, {source.count(each.old)} times | |", flush=True)
                survived += 1
                continue
            began = time.monotonic()
            path.write_text(source.replace(each.old, each.new), encoding="utf-8")
            try:
                noticed = _noticed(copy, each)
            finally:
                path.write_text(source, encoding="utf-8")
            survived += noticed is None
            said = noticed or "SURVIVED"
            print(f"| {each.name} | {each.file} | {said} | {time.monotonic() - began:.0f} s |", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} noticed")
    return survived


def _noticed(copy: Path, each: Mutation) -> str | None:
    """Return the first test that fails, or None."""
    tests = [test for test in each.tests if (copy / test).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow"]
    environment = {"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(copy)}
    done = subprocess.run([*command, *tests], cwd=copy, capture_output=True, text=True, env=environment, timeout=600)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].split("::", 1)[-1][:90] if failed else None if done.returncode == 0 else "broken"


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
