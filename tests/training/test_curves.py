import pytest

from pipeline.training.report import curve_figure


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"step": 0, "eval_wql": 1.0, "eval_mase": 0.0, "eval_loss": 2.0}],
        [{"step": 3, "loss": 2.0}],
    ],
)
def test_the_curves_of_any_history_have_two_axes(history):
    assert len(curve_figure(history).axes) == 2
