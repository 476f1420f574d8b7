"""Trainings with the control alone and the candidate alone, seed by seed, each in a process of its own."""
