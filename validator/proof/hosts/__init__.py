"""Faults planted in hosts, which both caches share: each is charged to the host, by recomputing without a cache."""
