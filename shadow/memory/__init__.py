"""Bytes of dense entries in host memory, and the one C module that works on them."""
