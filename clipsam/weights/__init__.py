"""Presets, conversion of published weights, and loading and saving of bundles."""
