"""How a run directory lies on disk."""
