"""Recomputing without a cache what a host stores: the only judge of a host whose mistakes both caches share.

Between host and oracle stands ``shadow.recompute``. In ``shadow/hosts/<host>/oracle.py`` stands a ``Recomputer``, which
knows how this host computes; here stands what is the same for all of them. How they work together:

1. The host says that it can recompute: ``validation.recompute(cache, recomputer)`` (``Lockstep.recompute``), once its
   cache is shadowed. If the settings have no table ``oracle``, nothing is hooked and that was it.
2. ``recomputer.attach(oracle)`` hooks into the host, as by an attribute of an instance that wraps a method. It raises
   ``UnknownModel`` if it does not find what it knows; that ends the host before it trains.
3. The hooks collect inputs: tokens, actions, which env, where an episode began. ``oracle.choose("envs", n)`` and
   ``oracle.search_is_followed()`` say which of them. The pair tells ``recomputer.stored(place, entry)`` of each set
   before either side stores, and ``recomputer.looked_up(place, answer)`` of each lookup after both answered, with the
   primary's answer: so a recomputer knows of each miss, from which on a history begins anew.
4. Where it knows what should be stored, be it in ``stored`` or in a hook of its own once a step is over, it asks
   ``oracle.affords()``, recomputes inside ``with oracle.contained("what it does", module):``, and calls
   ``oracle.judge(place, {"host": regions(entry)}, Recomputed(...))``. An entry may be the host's staging buffer: it is
   judged, or cloned, before the host goes on.
5. ``Recomputed.suspects`` is a generator that is only asked when something else is stored; each suspect is what *would*
   be stored after one mistake of the host, and the first that fits names the cause. What needs no recomputation (layers
   or K and V mixed, more tokens than there should be, tokens shifted) the frame finds by itself.
6. ``oracle.not_judged("the model is in training mode")`` for what can't be recomputed, ``oracle.measured("shift error",
   0.09)`` for a number that is no verdict.

Every hook's own work stands inside ``oracle.contained``: nothing of it ever reaches the host.
"""
