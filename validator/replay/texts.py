"""Entries and calls as the text of a test, which needs nothing but torch and what the entries are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reports.record.trace import Form, Layout
from shadow.operation import Given
from validator.proof.stream import Step
from validator.replay.appending import KEYS_AND_VALUES
from validator.replay.bodies import Body
from validator.replay.nests import Nest

_ENTRY = '''
def entry({signature}):
    """Make an entry that no other number makes."""
    made = KeysValues({shape}, dtype={dtype})
    generator = torch.Generator().manual_seed(number)
    for layer in made:
        for part, size in zip((layer._k_cache, layer._v_cache), {sizes}):
            part.update({drawn}.to({dtype}))
    return made

'''
_STATES = '''
def states(number, rows={rows}, tokens={tokens}):
    """Make keys and values that no other number makes."""
    generator = torch.Generator().manual_seed(number)
    return [torch.randn(rows, {heads}, tokens, {width}, generator=generator).to(torch.{dtype}) for _ in range(2)]

'''
_DRAWN = '''
def drawn(number, leaf, shape, dtype):
    """Make a tensor that no other number makes."""
    generator = torch.Generator().manual_seed(number << 8 | leaf)
    return torch.randn(shape, generator=generator).mul(40).to(dtype)

'''
_NEST = '''
def {name}(number):
    """Make an entry that no other number makes."""
    return {made}

'''
_USUAL = {"batch": 1, "heads": 1, "tokens": 1, "head_dim": 2, "layers": 1, "sizes": (1, 1), "dtype": "torch.float32"}


class Entries:
    """What makes the entries of a program, as text.

    Args:
        bodies: What is stored, perhaps repeatedly.

    Attributes:
        helpers: The functions that make them.
        imports: Lines that these need, beyond torch.
    """

    def __init__(self, bodies: Iterable[Body]) -> None:
        self.bodies = {body: number for number, body in enumerate(dict.fromkeys(bodies))}
        dense = [_described(body.layout) for body in self.bodies if body.form is None]
        self._usual = dense[0] if dense else _USUAL
        self._states = _states(self.bodies)
        forms = [] if self._states else [(b.layout, b.form) for b in self.bodies if b.form is not None]
        names = ("nest" if dense else "entry", *(f"entry_{number}" for number in range(2, len(forms) + 1)))
        self._nests = dict(zip(dict.fromkeys(forms), names, strict=False))
        self.imports: set[str] = {"from shadow import KeysValues\n"} if dense else set()
        parts = [_keys_values(dense)] if dense else []
        if self._states:
            parts.append(_STATES.format(**self._states))
        if self._nests:
            parts += [_DRAWN, *(_NEST.format(name=name, made=self._made(*of)) for of, name in self._nests.items())]
        self.helpers = "".join(parts)

    def call(self, body: Body) -> str:
        """Return how the entry of a body is made; what is as in the first one is left to the defaults."""
        number = str(self.bodies[body])
        if body.form is None:
            own = _described(body.layout)
            return f"entry({', '.join([number, *(f'{n}={v}' for n, v in own.items() if v != self._usual[n])])})"
        if self._states is not None:
            rows, _, tokens, _ = body.layout[0][0]
            own = {"rows": rows, "tokens": tokens}
            return f"states({', '.join([number, *(f'{n}={v}' for n, v in own.items() if v != self._states[n])])})"
        return f"{self._nests[body.layout, body.form]}({number})"

    def _made(self, layout: Layout, form: Form) -> str:
        """Return the text of a nest: how its containers show themselves, with calls in the place of tensors."""
        calls = (_Text(f"drawn(number, {leaf}, {of[0]}, torch.{of[1]})") for leaf, of in enumerate(layout))
        made = Nest(form).of(calls)
        self.imports |= {f"from {kind.__module__} import {kind.__name__}\n" for kind in _kinds(made)}
        return repr(made)


class _Text(str):
    """A text that shows itself as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def arguments(step: Step) -> list[str]:
    """Return the arguments of a call before what it stores, as text."""
    if isinstance(step.key, Given):
        return [f"torch.tensor({list(each)})" if isinstance(each, tuple) else repr(each) for each in step.key]
    return [repr(value) for value in (step.env_id, step.key) if value is not None]


def call(step: Step, stored: str = "") -> str:
    """Return a call of ``cache`` as a person writes it."""
    given = arguments(step)
    key = given[-1] if given else ""
    if step.verb in _SIGNS and stored == "" and key:
        return _SIGNS[step.verb].format(key)
    if step.verb == "__setitem__":
        return f"cache[{key}] = {stored}"
    if step.entry is not None and step.entry.form == KEYS_AND_VALUES and step.key is None:
        return f"cache.{step.verb}(*{stored}, {', '.join(given)})"
    return f"cache.{step.verb}({', '.join([*given, stored] if stored else given)})"


_SIGNS = {"__getitem__": "cache[{}]", "__delitem__": "cache.__delitem__({})", "__contains__": "{} in cache"}


def _kinds(node: Any) -> set[type]:
    """Return the classes of a nest that have to be imported."""
    found = {type(node)} if type(node).__module__ not in ("builtins", __name__) else set()
    inside: Sequence[Any] = ()
    if isinstance(node, dict):
        inside = list(node.values())
    elif isinstance(node, (tuple, list)):
        inside = node
    elif hasattr(node, "__dict__"):
        inside = list(vars(node).values())
    return found.union(*map(_kinds, inside)) if not isinstance(node, str) else set()


def _states(bodies: Iterable[Body]) -> dict[str, Any] | None:
    """Describe keys and values that differ in rows and tokens alone; None if these don't."""
    found = [body for body in bodies if body.form is not None]
    if not found or any(body.form != KEYS_AND_VALUES for body in found):
        return None
    like = set()
    for body in found:
        (shape, dtype, *_), (other, *_) = body.layout
        like.add((len(shape), shape == other, body.layout[1][1] == dtype, shape[1], shape[-1], dtype))
    if len(like) > 1 or next(iter(like))[:3] != (4, True, True):
        return None
    rows, heads, tokens, width = found[0].layout[0][0]
    return {"rows": rows, "heads": heads, "tokens": tokens, "width": width, "dtype": found[0].layout[0][1]}


def _keys_values(known: Sequence[dict[str, Any]]) -> str:
    """Return what makes an entry of a number; where there are several layouts, of these too."""
    usual = known[0]
    more = [name for name in usual if any(one[name] != usual[name] for one in known)]
    values = {name: name if name in more else str(value) for name, value in usual.items()}
    signature = ", ".join(["number", *(f"{name}={usual[name]}" for name in more)])
    fixed = not {"heads", "head_dim"} & set(more)
    values["width"] = str(usual["heads"] * usual["head_dim"]) if fixed else "{heads} * {head_dim}".format_map(values)
    shape = "{batch}, {heads}, {tokens}, {width}, {layers}".format_map(values)
    drawn = "torch.randn({batch}, {heads}, size, {head_dim}, generator=generator)".format_map(values)
    return _ENTRY.format(signature=signature, shape=shape, drawn=drawn, **values)


def _described(layout: Any) -> dict[str, Any]:
    shape, dtype, _, size = layout[0]
    sizes = {"layers": len(layout) // 2, "sizes": (size, layout[1][3]), "dtype": f"torch.{dtype}"}
    return dict(zip(("batch", "heads", "tokens", "head_dim"), shape, strict=True)) | sizes
