"""Would the harness notice: planted faults, the self-test, conformance."""
