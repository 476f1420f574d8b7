"""Caches whose clears take away too little, or too much."""

from __future__ import annotations

from validator.proof.faults.wrapped import Wrapped


class RecurKept(Wrapped):
    """The recurrent pool is never cleared by its own clear."""

    def clear_recur_cache(self) -> None:
        return


class EnvKept(Wrapped):
    """The clear of one env does nothing."""

    def clear_init_cache(self, env_id: int) -> None:
        return


class AllKeepsRecur(Wrapped):
    """``clear_all`` forgets the recurrent pool."""

    def clear_all(self) -> None:
        self.inner.clear_init_caches()


class AllKeepsInit(Wrapped):
    """``clear_all`` forgets the init pools."""

    def clear_all(self) -> None:
        self.inner.clear_recur_cache()


class EnvClearTooWide(Wrapped):
    """The clear of one env clears all of them."""

    def clear_init_cache(self, env_id: int) -> None:
        self.inner.clear_init_caches()


class RecurClearTooWide(Wrapped):
    """The clear of the recurrent pool clears the init pools too."""

    def clear_recur_cache(self) -> None:
        self.inner.clear_recur_cache()
        self.inner.clear_init_caches()
