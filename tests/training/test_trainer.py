import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from support.runs import logged, prepared, seasonal_store, trained

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.train_model import ChronosTrainer
from pipeline.training.trainer import ScoringTrainer

WAVE = 5 + np.sin(np.arange(60.0))
ZEROS_AT_THE_END = np.where(np.arange(60) < 40, WAVE, 0.0)
ONE_SALE = np.where(np.arange(60) < 59, 0.0, 1.0)  # after a constant context


def base_scores(base, *datasets, **training):
    """Return the scores of a base on the validation windows of data sets, each a list of series."""
    settings = {"max_steps": 1, "prediction_length": 4, "metric": "wql", "validation_windows": 64, **training}
    trainer, windows = prepared(base, data=[store_from_arrays(series) for series in datasets], **settings)
    trainer.train_model(windows, epochs="auto")
    return trainer.result.selection.candidates[0].scores


def test_a_data_set_without_a_score_does_not_change_the_mean_of_the_others(tiny):
    alone = base_scores(tiny["bolt"], [WAVE], validation_split=0.2)
    beside = base_scores(tiny["bolt"], [WAVE], [ZEROS_AT_THE_END], validation_split=0.2)
    assert beside["wql"] == pytest.approx(alone["wql"], rel=1e-5)


def test_a_metric_that_no_window_defines_is_refused(tiny):
    with pytest.raises(UserError, match="training.metric wql"):
        base_scores(tiny["bolt"], [ZEROS_AT_THE_END], validation_split=0.2)
    assert np.isnan(base_scores(tiny["bolt"], [ZEROS_AT_THE_END], validation_split=0.2, metric="mase")["wql"])


def test_the_scores_are_means_over_data_sets(tiny):
    first, second = 10 * WAVE, 5 + np.sin(np.arange(60) / 3.0)
    together = base_scores(tiny["bolt"], [first], [second])
    scores = [base_scores(tiny["bolt"], [series]) for series in (first, second)]
    for name in ("wql", "mase"):
        assert together[name] == pytest.approx(np.mean([score[name] for score in scores]), rel=1e-5)


def test_the_validation_loss_is_the_mean_of_windows_that_training_could_draw(tiny):
    alone, beside = (base_scores(tiny["bolt"], series)["loss"] for series in ([WAVE], [WAVE, ONE_SALE]))
    assert beside == pytest.approx(alone, rel=1e-5)


def test_a_model_trained_in_bfloat16_is_scored_by_its_forecasts_in_float32(tiny):
    trainer, windows = prepared(tiny["bolt"], max_steps=1, precision="bf16")
    trainer.train_model(windows, epochs="auto")
    base = trainer.result.selection.candidates[0].scores
    expected = ChronosTrainer(str(tiny["bolt"])).evaluate_model(windows)
    assert trainer.result.identity["arithmetic"] == "bf16 on cpu"
    assert (base["wql"], base["mase"]) == pytest.approx((expected["WQL"], expected["MASE"]), rel=1e-6)


def test_an_evaluation_does_not_change_the_random_numbers_of_training(tiny, tmp_path):
    """Chronos-2 draws random numbers when it loads windows, and token models when they forecast."""
    often, rarely = (
        trained(tiny["chronos-2"], tmp_path / str(every), trainer={"eval_steps": every}) for every in (1, 4)
    )
    assert often.result.selection.candidates[-1].scores == rarely.result.selection.candidates[-1].scores


def test_forecasts_of_validation_windows_are_drawn_by_the_selected_model(tiny):
    trainer, windows = prepared(tiny["bolt"], learning_rate=1e38, max_steps=2)
    trainer.train_model(windows, epochs="auto")
    assert not trainer.result.selection.is_trained and len(trainer.result.drawn) == 6
    assert all(np.isfinite(drawn.median).all() and drawn.base is None for drawn in trainer.result.drawn)


def test_the_drawn_forecasts_are_those_of_the_trained_model_beside_those_of_its_base(tiny, tmp_path):
    trainer = trained(tiny["bolt"], tmp_path / "out", pictures=True, learning_rate=3e-2)
    store = seasonal_store()
    for model, field in ((tmp_path / "out", "median"), (tiny["bolt"], "base")):
        pipeline = BaseChronosPipeline.from_pretrained(model)
        for drawn in trainer.result.drawn:
            start = int((drawn.dates[len(drawn.history)] - store.starts[0]) / np.timedelta64(1, "D"))
            values = store.target(store.item_ids.index(drawn.name))
            quantiles = pipeline.predict(torch.from_numpy(values[:start].copy()), 16)  # nearly untrained, so they cross
            np.testing.assert_allclose(getattr(drawn, field), quantiles.sort(dim=1).values[0, 4], rtol=1e-4)
            np.testing.assert_array_equal(drawn.target, values[start : start + 16])


def test_private_hooks_of_the_library_still_exist():
    """Overridden private methods would be ignored without a word if the library renamed them."""
    from transformers import Trainer

    private = [name for name in vars(ScoringTrainer) if name.startswith("_") and not name.startswith("__")]
    ours = {"_validation_loss", "_batch_loss", "_count_tokens"}
    assert {name for name in private if not hasattr(Trainer, name)} == ours


def test_a_schedule_by_validation_scores_lowers_the_rate_between_saves(tiny, tmp_path):
    """No evaluation improves by nine tenths, so each lowers the rate to a tenth."""
    schedule = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "threshold": 0.9}}
    trained(tiny["bolt"], tmp_path, trainer={**schedule, "eval_steps": 1, "save_steps": 4, "logging_steps": 1})
    rates = logged(tmp_path, "learning_rate")
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
