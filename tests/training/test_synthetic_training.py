"""Training on series made as they are needed, and on sums of series, through the configuration and the scripts."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from support.series import long_frame

from pipeline.config import Config, DataConfig, MixupConfig, SqlSource, SyntheticConfig, WeightedSource
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.synthetic.bank import Bank, open_bank
from pipeline.train_model import ChronosTrainer
from pipeline.windows.samplers import MixupSampler
from pipeline.windows.synthetic_samplers import SyntheticSampler
from pipeline.windows.training_sets import open_training_data
from pipeline.windows.training_windows import TrainingWindows
from pipeline.windows.validation_windows import synthetic_holdout

LENGTHS = {"context_length": 96, "prediction_length": 16}
SHORT = ["--training.max_steps", 3, "--training.context_length", 48, "--training.prediction_length", 8]


def windows(name="bank", **settings):
    source = SyntheticSampler(open_bank(name), min_past=4)
    return TrainingWindows([source], [1.0], **{**LENGTHS, "drop_prob": 0.1, "seed": 0, **settings})


def test_window_i_depends_on_the_seed_and_i_alone():
    context, target = windows().batch(range(200))
    order = np.random.default_rng(0).permutation(200)
    for chosen in (order[:3], order[3:80]):
        one, ahead = pickle.loads(pickle.dumps(windows())).batch(chosen)
        padded = np.full((len(one), 96), np.nan, np.float32)
        padded[:, 96 - one.shape[1] :] = one
        np.testing.assert_array_equal(padded, context[chosen])
        np.testing.assert_array_equal(ahead, target[chosen])
    other, _ = windows(seed=1).batch(range(200))
    assert not any(np.array_equal(a, b, equal_nan=True) for a, b in zip(context, other))


def test_windows_are_of_all_context_lengths_and_can_be_learned_from():
    context, target = windows(drop_prob=0.0).batch(range(1500))
    assert context.shape == (1500, 96) and target.shape == (1500, 16) and context.dtype == np.float32
    known = ~np.isnan(context)
    first = np.where(known.any(axis=1), known.argmax(axis=1), 96)
    assert 0.25 < (first == 0).mean() < 0.45 and (first > 48).mean() > 0.25 and first.max() <= 96 - 2
    assert (np.nanstd(context, axis=1) > 0).all() and (~np.isnan(target)).any(axis=1).all()
    assert np.isnan(context[first == 0]).any()


def test_contexts_of_a_batch_are_of_one_length():
    """In any order of the batches. Only values dropped at the start make a context look shorter."""
    some = windows(drop_prob=0.0, batch_size=16)
    widths = [some.batch(range(16 * k, 16 * k + 16))[0].shape[1] for k in range(60)]
    assert len(set(widths)) > 20 and 10 < widths.count(96) < 30 and min(widths) < 8
    context, _ = some.batch([16 * 59 + 5, 3, 16 * 59 + 1, 7])
    begins = np.argmax(~np.isnan(context), axis=1)
    assert [widths[59], widths[0]] * 2 == (context.shape[1] - begins).tolist()


def test_the_context_is_what_comes_before_the_target():
    """A wave without noise goes on: the period found in the context leads to the target."""
    bank = Bank({"waveforms": 1.0}, {}, {"waveforms": {"period": (8, 8), "noise": (1e-9, 1e-9)}}, 0.0)
    source = SyntheticSampler(bank, min_past=4)
    context, target = TrainingWindows([source], [1.0], **LENGTHS, drop_prob=0.0, seed=0).batch(range(400))
    series = np.concatenate([context, target], axis=1)
    whole = series[~np.isnan(series).any(axis=1)]
    repeats = [any(np.allclose(row[p:], row[:-p], atol=1e-3) for p in range(2, 49)) for row in whole]
    assert np.mean(repeats) > 0.5


def test_held_out_series_are_no_training_windows_and_of_one_size():
    source = SyntheticSampler(open_bank("fractal"), min_past=8)
    split = synthetic_holdout(source, 100, **LENGTHS, seed=0)
    context, _ = TrainingWindows([source], [1.0], **LENGTHS, drop_prob=0.0, seed=0).batch(range(3000))

    def form(series):
        return tuple(np.round(series[-8:] / np.abs(series[-8:]).mean(), 3))

    seen = set(map(form, context))
    assert len(seen) == 3000
    for k in range(100):
        series, end = split.store.target(k), split.train_ends[k]
        assert split.ends[k] - end == 16 and len(series) > 16 and form(series[:end]) not in seen
        assert np.nanmean(np.abs(series[:end])) == pytest.approx(1, rel=1e-3)


def prepared(nano, data, config=None, **training):
    trainer = ChronosTrainer(str(nano["bolt"]))
    config = config or Config()
    trainer.config = replace(config, training=replace(config.training, validation_windows=20, **LENGTHS, **training))
    return trainer.prepare_training_data(data), trainer


def test_real_and_synthetic_sources_are_drawn_by_weight(nano, tmp_path):
    long_frame(n_series=4, length=300).to_csv(tmp_path / "a.csv", index=False)
    sources: list[WeightedSource | SqlSource | str]
    sources = [WeightedSource(str(tmp_path / "a.csv"), 1.0), WeightedSource("synthetic:growth", 3.0)]
    config = replace(Config(), data=DataConfig(train=sources), paths=replace(Config().paths, data_dir=str(tmp_path)))
    (training, validation), _ = prepared(nano, open_training_data(config), config)
    _, target = training.batch(range(2000))
    real = ((target > 0) & (target < 20)).all(axis=1) & (np.abs(np.diff(target, axis=1)).std(axis=1) > 0.4)
    assert abs(real.mean() - 0.25) < 0.08
    assert set(validation.windows[:, 0]) == {0, 1} and training.windows_per_epoch() == 4 * (300 - 3 * 16) * 4 // 16


def written_store(folder):
    """Return the one store in a folder that generate_data.py wrote."""
    (member,) = open_training_data(replace(Config(), data=DataConfig(train=folder)))
    assert isinstance(member.series, Store)
    return member.series


def test_a_folder_of_shards_is_opened_where_it_lies(run_script, tmp_path, nano):
    code, out, err = run_script(
        "generate_data", "--synthetic.generator", "bank", "--synthetic.n_series", 25, "--synthetic.shard_size", 10,
        "--synthetic.length", 120,
    )  # fmt: skip
    assert code == 0 and "25 series: data/synthetic/bank" in out, err
    config = replace(Config(), data=DataConfig(train=[WeightedSource("data/synthetic/bank", 2.0)]))
    sets = open_training_data(config)
    stores = [member.series for member in sets if isinstance(member.series, Store)]
    assert [len(store) for store in stores] == [10, 10, 5] and [member.weight for member in sets] == [0.8, 0.8, 0.4]
    assert all(store.path is not None and store.path.parent.name == "bank" for store in stores)
    assert not (tmp_path / "data" / "cache").exists()


def test_mixup_takes_the_place_of_the_series(nano, tmp_path):
    long_frame(n_series=4, length=300).to_csv(tmp_path / "a.csv", index=False)
    config = replace(
        Config(),
        data=DataConfig(train=str(tmp_path / "a.csv"), mixup=True),
        synthetic=SyntheticConfig(mixup=MixupConfig(max_series=2)),
        paths=replace(Config().paths, data_dir=str(tmp_path)),
    )
    (training, validation), trainer = prepared(nano, open_training_data(config), config)
    assert [type(source) for source in training.samplers] == [MixupSampler]
    context, _ = training.batch(range(300))
    assert np.abs(np.nanmean(context, axis=1) - 1).max() < 0.2 and np.nanmean(validation.batch([0])[0]) > 5
    (plain, _), _ = prepared(nano, open_training_data(config), replace(config, data=replace(config.data, mixup=False)))
    assert np.nanmean(plain.batch(range(50))[0]) > 5


def test_epochs_of_generated_series_are_refused(nano):
    data, trainer = prepared(nano, [open_bank("growth")])
    with pytest.raises(UserError, match="training.epochs.*training.max_steps"):
        trainer.train_model(data, epochs=2)
    trainer.config = replace(trainer.config, data=DataConfig(mixup=True))
    with pytest.raises(UserError, match="data.mixup: there are no series"):
        trainer.prepare_training_data([open_bank("growth")])


def test_the_scripts_train_on_the_bank_and_resume_knows_it(run_script, tmp_path, nano):
    arguments = ["--base_model.output_path", nano["bolt"], "--data.train", "synthetic:bank", *SHORT]
    code, out, err = run_script("train", *arguments)
    assert code == 0 and "3 steps" in out, err
    first = json.loads((tmp_path / "data/models/trained/training_info.json").read_text())["identity"]["data"]
    (tmp_path / "b.yaml").write_text("priors: {growth: {weight: 1}}")
    code, _, err = run_script("train", *arguments, "--synthetic.bank", "b.yaml", "--training.overwrite", "true")
    assert code == 0, err
    second = json.loads((tmp_path / "data/models/trained/training_info.json").read_text())["identity"]["data"]
    assert first != second


def test_the_scripts_train_chronos_2_on_panels(run_script, tmp_path, nano):
    arguments = ["--data.train", "synthetic:panels", *SHORT]
    code, out, err = run_script("train", "--base_model.output_path", nano["chronos-2"], *arguments)
    assert code == 0 and "3 steps" in out, err
    info = json.loads((tmp_path / "data/models/trained/training_info.json").read_text())
    assert len({*(json.dumps(entry["loss"]) for entry in info["history"] if "loss" in entry)}) > 1
    code, _, err = run_script(
        "train", "--base_model.output_path", nano["bolt"], *arguments, "--training.overwrite", "true"
    )
    assert code == 2 and "synthetic:panels" in err and err.count("\n") == 1


def test_tsmixup_in_files_leaves_out_the_steps_for_testing(run_script, tmp_path):
    frame = long_frame(length=60)
    last = frame.groupby("item_id").cumcount() >= 48
    frame.loc[last, "target"] += 1e6
    frame.to_csv(tmp_path / "s.csv", index=False)
    arguments = ["--synthetic.generator", "tsmixup", "--data.train", "s.csv", "--synthetic.n_series", 20]
    lengths = ["--data.test_length", 12, "--synthetic.mixup.min_length", 20]
    assert run_script("generate_data", *arguments, *lengths)[0] == 0
    store = written_store("data/synthetic/tsmixup")
    # Divided by their mean, as mixtures are, the other values are tiny beside the large values of the test steps.
    assert min(store.target(index).min() for index in range(20)) > 0.2
    assert run_script("generate_data", *arguments, *lengths[2:])[0] == 2  # the folder has series of other settings


def test_tsmixup_is_written_by_the_script(run_script, csv):
    arguments = ["--synthetic.generator", "tsmixup", "--data.train", csv, "--synthetic.n_series", 30]
    code, _, err = run_script("generate_data", *arguments)
    assert code == 2 and all(fact in err for fact in ("synthetic.mixup.min_length", "128", "120")), err
    code, _, err = run_script("generate_data", *arguments, "--synthetic.length", 64)
    assert code == 2 and "synthetic.length" in err
    code, _, err = run_script("generate_data", *arguments, "--synthetic.mixup.min_length", 50)
    assert code == 0, err
    store = written_store("data/synthetic/tsmixup")
    assert store.lengths.min() >= 50 and store.lengths.max() <= 120 and len(store) == 30


def test_the_preview_is_drawn(run_script, tmp_path):
    code, out, err = run_script("generate_data", "--preview", "--synthetic.length", 60)
    assert code == 0 and "gallery: data/reports/bank.png" in out, err
    assert (tmp_path / "data" / "reports" / "bank.png").stat().st_size > 10_000
    assert not (tmp_path / "data" / "dummy").exists()
    whole = (tmp_path / "data" / "reports" / "bank.png").stat().st_size
    code, out, err = run_script("generate_data", "--preview", "--synthetic.generator", "sarima")
    assert code == 0 and (tmp_path / "data" / "reports" / "bank.png").stat().st_size < whole / 4, err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--synthetic.length", -5], "synthetic.length"),
        (["--synthetic.n_series", 0], "synthetic.n_series"),
        (["--synthetic.mixup.min_length", -1], "synthetic.mixup.min_length"),
        (["--synthetic.mixup.min_length", 500, "--synthetic.mixup.max_length", 200], "synthetic.mixup.max_length"),
        (["--synthetic.generator", "arima"], "no prior 'arima'"),
        (["--synthetic.generator", "bank", "--synthetic.bank", "zero.yaml"], "sum to 0"),
        (
            ["--synthetic.generator", "bank", "--synthetic.bank", "long.yaml", "--synthetic.length", 100],
            "longer than a series",
        ),
        (["--preview", "--synthetic.bank", "long.yaml", "--synthetic.length", 100], "longer than a series"),
        (["--synthetic.generator", "tsmixup", "--data.train", "synthetic:bank"], "mixes stored series"),
        (
            ["--synthetic.n_series", 5, "--synthetic.length", 9],
            "--series (synthetic.n_series), --length (synthetic.length) would have no effect",
        ),
        (
            ["--synthetic.generator", "growth", "--synthetic.bank", "long.yaml"],
            "bank, or one of the priors sarima",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(run_script, tmp_path, arguments, said):
    (tmp_path / "zero.yaml").write_text("priors: {sarima: {weight: 0}}")
    (tmp_path / "long.yaml").write_text("priors: {sarima: {weight: 1, period: [200, 300]}}")
    code, _, err = run_script("generate_data", *arguments)
    assert code == 2 and said in err and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.yaml", "zero.yaml"]


def test_a_period_longer_than_a_window_is_refused_in_training(run_script, tmp_path, nano):
    (tmp_path / "long.yaml").write_text("priors: {sarima: {weight: 1, period: [200, 300]}}")
    arguments = ["--base_model.output_path", nano["bolt"], "--data.train", "synthetic:bank", *SHORT]
    code, _, err = run_script("train", *arguments, "--synthetic.bank", "long.yaml")
    assert code == 2 and "longer than a series of 56" in err
