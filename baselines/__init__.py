"""Baseline methods."""
