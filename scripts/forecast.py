"""Forecast your series with a trained model."""

from pipeline.cli import run
from pipeline.config import Config


def main(config: Config) -> None:
    """Write the forecasts of all series, and a picture if inference.plot_path is set."""
    from pipeline.forecasting.forecast import forecast

    forecast(config)


if __name__ == "__main__":
    run(main)
