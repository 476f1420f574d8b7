"""Faults that are planted to see whether they are noticed."""
