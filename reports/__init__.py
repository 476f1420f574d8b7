"""The run directory on disk: writing it from the training process, reading it for people and machines."""
