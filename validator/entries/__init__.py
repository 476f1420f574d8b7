"""When are two entries equal: comparison, digests, evidence."""
