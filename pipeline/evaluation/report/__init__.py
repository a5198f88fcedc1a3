"""The report of an evaluation: page, charts and tables."""
