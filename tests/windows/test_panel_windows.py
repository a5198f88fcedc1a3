"""Windows of synthetic panels: functions of the seed and the index, in batches of one layout, with roles and groups."""

import numpy as np
import pytest
import torch

from pipeline.core.series import KNOWN, PAST, TARGET, Variates
from pipeline.data.covariates import encode_categories
from pipeline.synthetic.bank import default_bank
from pipeline.synthetic.draws import make_keys
from pipeline.synthetic.panels import Panels, draw_panels
from pipeline.windows import synthetic_samplers
from pipeline.windows.inputs import WindowDataset, input_function
from pipeline.windows.synthetic_samplers import PanelSampler, SyntheticSampler, encode_panel_categories
from pipeline.windows.training_windows import TrainingWindows

CONTEXT, HORIZON, BATCH, N_BATCHES = 60, 20, 24, 60


def panel_windows(seed=0, bank=default_bank()):
    lengths = {"context_length": CONTEXT, "prediction_length": HORIZON}
    return TrainingWindows([PanelSampler(bank, 8)], [1.0], **lengths, drop_prob=0.0, seed=seed, batch_size=BATCH)


@pytest.fixture(scope="module")
def batches():
    windows = panel_windows()
    return [windows.grouped_batch(range(BATCH * k, BATCH * (k + 1))) for k in range(N_BATCHES)]


def test_a_window_does_not_depend_on_the_others_of_its_batch(batches):
    windows = panel_windows()
    for number, whole in enumerate(batches[:15]):
        for first, last in ((0, 1), (5, 11), (23, 24)):
            part = windows.grouped_batch(range(BATCH * number + first, BATCH * number + last))
            for name in ("context", "target"):
                ours, theirs = getattr(part, name), getattr(whole, name)[first:last]
                width = min(ours.shape[1], theirs.shape[1])
                window = slice(-width, None) if name == "context" else slice(width)
                np.testing.assert_array_equal(ours[:, window], theirs[:, window])
            np.testing.assert_array_equal(part.roles, whole.roles[first:last])
    assert not np.array_equal(panel_windows(seed=1).grouped_batch(range(BATCH)).roles, batches[0].roles)


def test_a_batch_has_one_layout_and_one_horizon(batches):
    sizes, horizons = [], []
    for batch in batches:
        groups, counts = np.unique(batch.groups, return_counts=True)
        whole = counts[groups >= 0]
        horizons.append(batch.target.shape[1])
        assert horizons[-1] <= min(HORIZON, batch.context.shape[1])
        if not len(whole):  # single series
            assert (batch.roles == TARGET).all() and (counts == 1).all()
            sizes.append(1)
            continue
        sizes.append(whole.max())
        assert 2 <= sizes[-1] <= PanelSampler.max_variates
        for group in groups[groups >= 0]:
            roles = batch.roles[batch.groups == group]
            assert (np.diff(roles) >= 0).all()
    assert abs((np.array(sizes) > 1).mean() - PanelSampler.panel_share) < 0.2 and len(set(sizes)) >= 5
    assert 0.3 < (np.array(horizons) < HORIZON).mean() < 0.9
    assert {*np.concatenate([batch.roles for batch in batches])} == {TARGET, PAST, KNOWN}


def test_the_rows_of_a_group_are_those_of_a_panel_in_order(monkeypatch):
    def numbered_panels(bank, keys, lengths, width, n_variates):
        """Return panels whose values are the remainder of the key and the row, with a slope."""
        codes = 100.0 * (keys % np.uint64(97))[:, None] + np.arange(n_variates)
        values = (codes[:, :, None] + np.arange(width) / 200).astype(np.float64)
        shape = codes.shape
        return Panels(values, np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool))

    monkeypatch.setattr(synthetic_samplers, "draw_panels", numbered_panels)
    windows, n_groups = panel_windows(), 0
    for number in range(20):
        batch = windows.grouped_batch(range(BATCH * number, BATCH * (number + 1)))
        for group in np.unique(batch.groups[batch.groups >= 0]):
            panel, row = np.divmod(np.floor(batch.context[batch.groups == group, -1]), 100)
            assert len(set(panel)) == 1 and (row == np.arange(len(row))).all()
            n_groups += 1
    assert n_groups > 40


def test_categories_are_encoded_from_the_past_as_those_of_stored_series():
    n, length = 300, CONTEXT + HORIZON
    panels = draw_panels(default_bank(), make_keys(4, np.arange(n)), np.full(n, length), length, 3)
    encoded = encode_panel_categories(panels, np.tile(np.arange(length) < CONTEXT, (n, 1)))
    n_checked = 0
    for values, roles, numbers, ours in zip(panels.values, panels.roles, panels.n_categories, encoded):
        if numbers.any() and (roles == TARGET).sum() == 1:
            names = [f"v{k}" for k in range(3)]
            variates = Variates(
                ("v0",),
                tuple(name for name, role in zip(names, roles) if role == PAST),
                tuple(name for name, role in zip(names, roles) if role == KNOWN),
                {names[row]: tuple(map(str, range(numbers[row]))) for row in np.flatnonzero(numbers)},
            )
            past, future = encode_categories(
                values[None, :, :CONTEXT].astype(float), values[None, :, CONTEXT:].astype(float), variates
            )
            np.testing.assert_allclose(ours[:, :CONTEXT], past[0], rtol=1e-5)
            known = roles == KNOWN
            np.testing.assert_allclose(ours[known, CONTEXT:], future[0][known], rtol=1e-5)
            n_checked += 1
    assert n_checked > 30


def test_a_model_gets_the_future_of_known_covariates_only(batches):
    inputs = input_function("chronos-2", {"output_patch_size": 4}, HORIZON)
    dataset = WindowDataset(panel_windows(), 10_000, inputs)
    n_panels = 0
    for number, batch in enumerate(batches[:20]):
        given = dataset.__getitems__(range(BATCH * number, BATCH * (number + 1)))
        nothing = torch.full(batch.target.shape, torch.nan)
        roles, target = torch.from_numpy(batch.roles)[:, None], torch.from_numpy(batch.target)
        for name, role in (("future_target", TARGET), ("future_covariates", KNOWN)):
            torch.testing.assert_close(given[name], torch.where(roles == role, target, nothing), equal_nan=True)
        assert given["num_output_patches"] == -(-batch.target.shape[1] // 4)
        same = given["group_ids"][:, None] == given["group_ids"]
        np.testing.assert_array_equal(same, batch.groups[:, None] == batch.groups)
        n_panels += bool((batch.roles != TARGET).any())
    assert n_panels > 5


def test_the_bank_and_the_panels_are_in_the_hash():
    bank = default_bank()
    hashes = {
        PanelSampler(bank, 8).fingerprint,
        SyntheticSampler(bank, 8).fingerprint,
        PanelSampler(bank.single_prior("energy"), 8).fingerprint,
    }
    assert len(hashes) == 3
