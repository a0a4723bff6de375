"""Pipelines to compare with."""
