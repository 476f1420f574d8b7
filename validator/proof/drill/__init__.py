"""Drills: a user's own host with a planted fault, which must be noticed."""
