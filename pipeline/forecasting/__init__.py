"""Forecasts of models and of what they are to beat."""
