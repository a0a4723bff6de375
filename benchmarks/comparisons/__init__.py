"""The papers' comparisons at small scale: what is compared, running it, and its report."""
