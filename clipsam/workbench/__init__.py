"""The Gradio page: one file per part of it, and drawing apart from Gradio."""
