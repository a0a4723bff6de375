"""Metrics (counts, then named reductions) and ground truth."""
