"""Views of a prediction: masks, maps, errors, and agreement of methods."""
