"""See a divergence again: what is recorded of a pair, and how it is played, shrunk and written as a test."""
