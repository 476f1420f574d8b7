"""What caches and harness cost, measured: interleaved in one process, medians and spread."""
