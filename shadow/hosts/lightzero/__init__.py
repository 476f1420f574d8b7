"""LightZero as a host: its own caches under validation, without a line of it changed. Importable without LightZero."""

from shadow.hosts.lightzero.errors import LightZeroMismatch, LightZeroMissing
from shadow.hosts.lightzero.install import install

__all__ = ["LightZeroMismatch", "LightZeroMissing", "install"]
