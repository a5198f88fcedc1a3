"""Errors, atomic files, processes, the definition of a series, metrics and tables, for all packages."""
