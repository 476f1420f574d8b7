"""What a cache should hold: one model a policy."""
