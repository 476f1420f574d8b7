"""What the host holds in place of a cache: one door a shape, each method one line to ``Both``."""
