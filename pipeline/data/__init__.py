"""Conversion of sources in any common format to Arrow stores of series."""
