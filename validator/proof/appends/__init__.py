"""Append caches that are sound or broken in one way, and the streams that are played on them."""
