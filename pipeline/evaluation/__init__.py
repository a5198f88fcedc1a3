"""Scores of forecasts: backtest, baselines, comparison, ranking, report, fev."""
