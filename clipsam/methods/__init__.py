"""The papers' methods."""
