"""The papers' comparisons at small scale: trials, their execution, and the report."""
