"""The Adapt tab: fine-tuning of a method on a few labelled images."""
