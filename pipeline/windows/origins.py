"""Rolling forecast origins, for the backtest and for anomaly flags."""


def forecast_starts(length: int, prediction_length: int, n_origins: int) -> list[int]:
    """Return the steps at which forecasts of a series start, in order: the last one is a horizon before its end.

    Args:
        length: steps of the series; the first step is never forecast.
        prediction_length: steps of the horizon, and between two origins.
        n_origins: maximum number of origins.
    """
    n_origins = min(n_origins, (length - 1) // prediction_length)
    return [length - origin * prediction_length for origin in range(n_origins, 0, -1)]
