"""The Compare tab: one image, several classes, several methods, side by side."""
