"""A report on a terminal."""
