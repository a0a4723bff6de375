"""The Evaluate tab: methods measured on the user's labelled images."""
