"""The Evaluate tab: methods measured on labelled images that somebody brings."""
