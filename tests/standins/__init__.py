"""Small networks of random weights that stand in for published ones, saved as those are."""
