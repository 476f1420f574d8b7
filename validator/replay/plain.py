"""A program as calls of the cache at fault alone, which end with one assertion that a sound cache keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from validator.proof.appends.stream import argument, positions
from validator.proof.stream import Step
from validator.replay.texts import Entries, call

_SAME = '''
def same(found, expected):
    """Tell whether two entries hold equal bits."""
    if found is None or expected is None:
        return found is expected
    pairs = [pair for one, other in zip(found, expected) for pair in zip(one.get(), other.get())]
    return len(found) == len(expected) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)

'''
_SAME_NESTS = '''
def same(found, expected):
    """Tell whether two entries are of one structure and hold equal bits."""
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if hasattr(expected, "_keys_values"):
        parts = [[part for layer in entry for part in layer.get()] for entry in (found, expected)]
        return same(*parts)
    if isinstance(expected, (tuple, list)):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected

'''
_SAME_PARTS = '''
def same(found, expected):
    """Tell whether keys and values hold equal bits."""
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, expected))

'''
_OVERWRITE = '''
def overwrite(given):
    """Write into an entry, as a host does that goes on to use its buffers."""
    for layer in given or ():
        for part in layer.get():
            part.fill_(7)

'''
_ASKED = '''
def asked(call):
    """Return what a call answers, None where it raises KeyError."""
    try:
        return call()
    except KeyError:
        return None

'''
_JOINED = '''
def joined(*states):
    """Put keys and values behind each other."""
    return [torch.cat(parts, 2) for parts in zip(*states)]

'''
_CHOSEN = '''
def chosen(states, rows=None, columns=slice(None)):
    """Return some rows and columns of keys and values."""
    return [(part if rows is None else part[rows])[:, :, columns] for part in states]

'''
_ANSWERING = ("get", "__getitem__", "__contains__", "pop")


class Plain(NamedTuple):
    """The body of a test.

    Attributes:
        helpers: Functions that it needs.
        lines: What follows the line that builds the cache.
        calls: Calls of the cache.
    """

    helpers: str
    lines: list[str]
    calls: int


def keyed(
    steps: Sequence[Step], entries: Entries, cache: Any, sound: Any, given: bool = False, answers: bool = False
) -> Plain | None:
    """Play the calls on the cache at fault and on a sound one, and assert the first answer in which they differ.

    Args:
        steps: Calls.
        entries: What makes their entries.
        cache: The cache at fault.
        sound: Another one.
        given: Whether the host goes on to write into what it stored.
        answers: Whether it does into what it was answered.

    Returns:
        The test; None if they answer alike.
    """
    nests = any(body.form is not None for body in entries.bodies)
    helpers = (_SAME_NESTS if nests else _SAME) + (_OVERWRITE if given or answers else "")
    namespace = _namespace(entries, helpers)
    lines: list[str] = []
    raised = False
    probes = _probes(steps)
    for at, step in enumerate([*steps, *probes]):
        text = entries.call(step.entry) if step.entry is not None else ""
        entry = eval(text, namespace) if text else None
        expected, error = _played(sound, step, eval(text, namespace) if text else None)
        answer, own_error = _played(cache, step, entry)
        done = call(step, text)
        if isinstance(own_error, KeyError) and isinstance(error, KeyError):
            raised, done = True, f"asked(lambda: {done})"
        elif isinstance(error, KeyError):
            raised, own_error, done = True, None, f"asked(lambda: {done})"
        told = helpers + (_ASKED if raised else "")
        if own_error is not None and not isinstance(error, KeyError):
            return Plain(told, [*lines, f"{done}  # raises {type(own_error).__name__}"], at + 1)
        answering = step.entry is None and (step.verb in _ANSWERING or step.verb.endswith(("_cache", "_get")))
        answering = answering and not step.verb.startswith("clear")
        if answering and not _same(namespace, answer, expected):
            return Plain(told, [*lines, _asserted(done, expected, entries, namespace)], at + 1)
        if at >= len(steps):
            continue
        if text and given:
            lines += [f"given = {text}", call(step, "given"), "overwrite(given)"]
            namespace["overwrite"](entry)
        elif answering and answers:
            lines.append(f"overwrite({done})")
            namespace["overwrite"](answer)
        else:
            lines.append(done)
    return None


def _asserted(done: str, expected: Any, entries: Entries, namespace: dict[str, Any]) -> str:
    if isinstance(expected, bool):
        return f"assert {done}" if expected else f"assert not ({done})"
    for body in entries.bodies:
        text = entries.call(body)
        if expected is not None and _same(namespace, eval(text, namespace), expected):
            return f"assert same({done}, {text})"
    return f"assert {done} is None"


def _probes(steps: Sequence[Step]) -> list[Step]:
    """Return a lookup of each place that was written to, to be asked for at the end."""
    of_mapping = {step.key for step in steps if step.verb.startswith("__") or step.verb == "pop"}
    sets = [step for step in steps if step.entry is not None and not step.verb.startswith("__")]
    asked = [step._replace(verb=step.verb.replace("set", "get"), entry=None) for step in sets]
    return list(dict.fromkeys([*asked, *(Step("get", None, key) for key in of_mapping)]))


def _played(cache: Any, step: Step, entry: Any) -> tuple[Any, Exception | None]:
    given = [value for value in (step.env_id, step.key) if value is not None]
    try:
        return getattr(cache, step.verb)(*given, *([entry] if step.entry is not None else [])), None
    except Exception as error:
        return None, error


def _same(namespace: dict[str, Any], answer: Any, expected: Any) -> bool:
    """Compare as the test does; what can't be compared, an odd answer, is another one."""
    try:
        return bool(namespace["same"](answer, expected))
    except Exception:
        return False


def _namespace(entries: Entries, helpers: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec("import torch\n" + "".join(sorted(entries.imports)) + entries.helpers + helpers, found)
    return found


# -- append caches -----------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Columns of what one call appended: its text, rows in their order (None: as they are), from where to where."""

    text: str
    rows: tuple[int, ...] | None
    begin: int
    end: int
    whole: int

    def __str__(self) -> str:
        given = [] if self.rows is None else [f"rows={list(self.rows)}"]
        if (self.begin, self.end) != (0, self.whole):
            given.append(f"columns=slice({self.begin}, {self.end})")
        return f"chosen({self.text}, {', '.join(given)})" if given else self.text


def appending(steps: Sequence[Step], entries: Entries, cache: Any, windows: Sequence[int | None]) -> Plain | None:
    """Play the calls on the cache at fault, and assert the first answer that is not what was appended.

    Args:
        steps: Calls.
        entries: What makes what they append.
        cache: The cache at fault.
        windows: The window of each layer.

    Returns:
        The test; None if it answers as it should, or nobody can tell.
    """
    namespace = _namespace(entries, _SAME_PARTS + _JOINED + _CHOSEN)
    held: dict[int, list[_Piece]] = {}
    lines: list[str] = []
    for at, step in enumerate([*steps, *_one_more(steps)]):
        if step.entry is None or step.verb != "update":
            done = call(step)
            try:
                if not _rearranged(step, held, namespace):
                    return None
                getattr(cache, step.verb)(*map(argument, step.key or ()))
            except Exception as error:
                return Plain(_SAME_PARTS, [*lines, f"{done}  # raises {type(error).__name__}"], at + 1)
        else:
            text, layer = entries.call(step.entry), step.env_id or 0
            seen, new = sum(p.end - p.begin for p in held.get(layer, ())), step.entry.layout[0][0][2]
            held.setdefault(layer, []).append(_Piece(text, None, 0, new, new))
            window = windows[layer] if layer < len(windows) else None
            need = max(0, seen - window + 1) if window else 0
            more = positions(cache, seen, new)
            told = f', {{"cache_position": torch.arange({seen}, {seen + new})}}' if more else ""
            done = f"cache.update(*{text}, {layer}{told})"
            try:
                length, offset = _announced(cache, seen, new, layer)
                answer = cache.update(*eval(text, namespace), layer, *more)
            except Exception as error:
                return Plain(_SAME_PARTS, [*lines, f"{done}  # raises {type(error).__name__}"], at + 1)
            first, last = need - offset, seen + new - offset
            if first < 0 or last > length:
                return None
            pieces = _columns(held[layer], need)
            expected = f"joined({', '.join(map(str, pieces))})" if len(pieces) > 1 else str(pieces[0])
            found = done if (first, last) == (0, length) else f"chosen({done}, columns=slice({first}, {last}))"
            shown = eval(found.replace(done, "answer"), {**namespace, "answer": answer}) if _parts(answer) else None
            if not _same(namespace, shown, eval(expected, namespace)):
                helpers = [_SAME_PARTS, *([_JOINED] if "joined(" in expected else [])]
                helpers += [_CHOSEN] if "chosen(" in expected + found else []
                return Plain("".join(helpers), [*lines, f"assert same({found}, {expected})"], at + 1)
        lines.append(done)
        for layer, own in held.items():
            length = sum(piece.end - piece.begin for piece in own)
            if cache.get_seq_length(layer) != length:
                return Plain("", [*lines, f"assert cache.get_seq_length({layer}) == {length}"], at + 1)
    return None


def _announced(cache: Any, seen: int, new: int, layer: int) -> tuple[int, int]:
    """Return how many columns a cache is going to answer, and the position of the first."""
    try:
        length, offset = cache.get_mask_sizes(new, layer)
    except (AttributeError, TypeError):
        length, offset = cache.get_mask_sizes(torch.arange(seen, seen + new), layer)
    return int(length), int(offset)


def _parts(answer: Any) -> bool:
    return isinstance(answer, (tuple, list)) and all(isinstance(each, torch.Tensor) for each in answer)


def _one_more(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield one more append to each layer, which shows what it holds."""
    last = {step.env_id: step for step in steps if step.entry is not None and step.verb == "update"}
    yield from last.values()


def _columns(pieces: Sequence[_Piece], need: int) -> list[_Piece]:
    """Return the pieces from a position on."""
    found: list[_Piece] = []
    position = 0
    for piece in pieces:
        begin = piece.begin + max(0, need - position)
        position += piece.end - piece.begin
        if begin < piece.end or (piece is pieces[-1] and not found):
            found.append(piece._replace(begin=min(begin, piece.end)))
    return found


def _rearranged(step: Step, held: dict[int, list[_Piece]], namespace: dict[str, Any]) -> bool:
    """Do to the pieces what a call does to a sound cache; False if nobody can tell what that is."""
    given = step.key[0] if step.key else None
    if step.verb == "reset":
        held.clear()
    elif step.verb == "crop":
        if type(given) is not int or given >= 0:
            return False
        for layer, pieces in held.items():
            left = sum(piece.end - piece.begin for piece in pieces) + given
            kept = []
            for piece in pieces:
                end = min(piece.end, piece.begin + max(0, left))
                left -= piece.end - piece.begin
                if end > piece.begin:
                    kept.append(piece._replace(end=end))
            held[layer] = kept
    elif step.verb in ("reorder_cache", "batch_select_indices", "batch_repeat_interleave"):
        for layer, pieces in held.items():
            held[layer] = [piece._replace(rows=_chosen(step.verb, given, piece, namespace)) for piece in pieces]
    else:
        return False
    return True


def _chosen(verb: str, given: Any, piece: _Piece, namespace: dict[str, Any]) -> tuple[int, ...]:
    rows = piece.rows or tuple(range(len(eval(piece.text, namespace)[0])))
    if verb == "batch_repeat_interleave":
        return tuple(row for row in rows for _ in range(given))
    return tuple(rows[row] for row in given)
