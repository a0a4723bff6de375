"""The Gradio page: one module per part, with drawing kept apart from Gradio."""
