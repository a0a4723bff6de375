"""The Compare tab: one picture, several classes, several methods, side by side."""
