"""Presets, conversion between published weight formats and ours, loading and saving."""
