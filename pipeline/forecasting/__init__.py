"""Forecasts of stock Chronos pipelines: in batches, as tables and files, and as pictures."""
