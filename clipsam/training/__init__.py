"""Losses, recipes, one loop, and the stages that make the tiny bundle."""
