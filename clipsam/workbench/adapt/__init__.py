"""The Adapt tab: a method learns from a few labelled pictures."""
