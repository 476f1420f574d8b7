"""Two caches behind one: what the host holds, and what happens around a call."""
