"""The papers' tables: what each row trains and measures, what that needs, and how it runs."""
