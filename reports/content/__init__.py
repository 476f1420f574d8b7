"""What every format says about a run, before any format says it."""
