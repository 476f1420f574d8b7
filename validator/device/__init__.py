"""Entries on an accelerator that nobody waits for."""
