"""Models exported to ONNX, compared with stock pipelines; without torch, from Python and from Node."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from chronos import BaseChronosPipeline
from support.series import long_frame

from pipeline.config import Config, ExportConfig
from pipeline.core.errors import UserError
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.export import export_model, provide_export
from pipeline.models.load import read_model
from pipeline.models.onnx_model import OnnxModel

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CONTEXT = 64
"""Context length of the tiny models."""
WITHOUT_TORCH = """
import json, sys
import numpy as np
import onnxruntime
folder = sys.argv[1]
info = json.load(open(folder + "/onnx.json"))
session = onnxruntime.InferenceSession(folder + "/model.onnx")
context = np.array([[np.nan, 1, 2, 4, 3, 5]], np.float32)
quantiles = session.run(None, {"context": context})[0]
assert "torch" not in sys.modules
print(json.dumps(quantiles[0, info["quantiles"].index(0.5)].tolist()))
"""
NODE = """
const ort = require("onnxruntime-node");
const fs = require("fs");
(async () => {
  const info = JSON.parse(fs.readFileSync(process.argv[2] + "/onnx.json"));
  const session = await ort.InferenceSession.create(process.argv[2] + "/model.onnx");
  const context = new ort.Tensor("float32", [NaN, 1, 2, 4, 3, 5], [1, 6]);
  const { quantiles } = await session.run({ context });
  const [, , horizon] = quantiles.dims;
  const median = info.quantiles.indexOf(0.5);
  console.log(JSON.stringify(Array.from(quantiles.data.slice(median * horizon, (median + 1) * horizon))));
})();
"""


@pytest.fixture(scope="module")
def exported(uncrossed, tiny, tmp_path_factory):
    """The checkpoint and the export of each family; the weights of Chronos-2 are such that groups matter."""
    folder = tmp_path_factory.mktemp("exported")
    model = read_model(tiny["chronos-2"])
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights), alpha=0.1)
    model.save_pretrained(folder / "chronos-2")
    checkpoints = {"bolt": tiny["bolt"], "chronos-2": folder / "chronos-2"}
    for family, checkpoint in checkpoints.items():
        export(checkpoint, folder / f"{family}-onnx")
    return {family: (checkpoint, folder / f"{family}-onnx") for family, checkpoint in checkpoints.items()}


def export(model, output, **options):
    return export_model(Config(export=ExportConfig(output_path=str(output), **options)), str(model))


def random_contexts(rows, length):
    """Random walks with a fifth of the values missing, but for the first one."""
    generator = np.random.default_rng(length)
    values = 50 + generator.normal(size=(rows, length)).cumsum(axis=1)
    values[generator.random((rows, length)) < 0.2] = np.nan
    values[:, 0] = 50
    return values.astype(np.float32)


def assert_close(result, expected, contexts):
    """Compare forecasts, with a tolerance relative to their values, and to the scale of the contexts near zero."""
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * max(np.nanstd(contexts), 1e-3))


@pytest.mark.parametrize("batch", [1, 4])
def test_bolt_equals_stock_at_every_length(exported, batch):
    checkpoint, folder = exported["bolt"]
    stock, session = BaseChronosPipeline.from_pretrained(checkpoint), OnnxModel(folder)
    for length in [*range(1, CONTEXT + 1), 100, 500]:
        contexts = torch.from_numpy(random_contexts(batch, length))
        expected = stock.model(context=contexts).quantile_preds.detach().numpy()
        assert_close(session(contexts).quantile_preds.numpy(), expected, contexts.numpy())


@pytest.mark.parametrize("rows", [1, 5])
def test_chronos_2_equals_stock_at_every_length_and_horizon(exported, rows):
    checkpoint, folder = exported["chronos-2"]
    stock = BaseChronosPipeline.from_pretrained(checkpoint)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for length in [*range(1, CONTEXT + 1), 100]:
        contexts, horizon = random_contexts(rows, length), 1 + length % 40
        future = np.full((rows, horizon), np.nan, np.float32)
        future[-1] = np.arange(horizon)
        groups = np.arange(rows) // 2
        expected = stock.model(
            context=torch.from_numpy(contexts),
            group_ids=torch.from_numpy(groups),
            future_covariates=torch.from_numpy(future),
            num_output_patches=-(-horizon // 16),
        ).quantile_preds.detach()[:, :, :horizon]
        [result] = session.run(None, {"context": contexts, "future": future, "group_ids": groups})
        assert_close(result, expected.numpy(), contexts)


def test_the_groups_of_chronos_2_reach_the_graph(exported):
    session = onnxruntime.InferenceSession(exported["chronos-2"][1] / "model.onnx")
    inputs = {"context": random_contexts(2, 40), "future": np.full((2, 8), np.nan, np.float32)}
    together = session.run(None, {**inputs, "group_ids": np.array([0, 0])})[0]
    alone = session.run(None, {**inputs, "group_ids": np.array([0, 1])})[0]
    assert np.abs(together - alone).max() > 1e-3


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
@pytest.mark.parametrize("horizon", [7, 150])
def test_forecasts_equal_those_of_the_checkpoint_beyond_its_horizon_too(exported, family, horizon):
    contexts = [row[length:] for row, length in zip(random_contexts(3, 90), (0, 30, 85))]
    checkpoint, folder = exported[family]
    expected, points = Forecaster.load(str(checkpoint)).quantiles(contexts, horizon, [0.1, 0.5, 0.95])
    result, result_points = Forecaster.load(str(folder)).quantiles(contexts, horizon, [0.1, 0.5, 0.95])
    for context, rows in zip(contexts, zip(result, expected)):
        assert_close(*rows, context)
    assert result_points.shape == points.shape


def test_onnx_json_describes_the_graph(exported):
    folder = exported["chronos-2"][1]
    info = json.loads((folder / "onnx.json").read_text())
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert list(info["inputs"]) == [value.name for value in session.get_inputs()]
    assert list(info["outputs"]) == [value.name for value in session.get_outputs()]
    assert (info["context_length"], info["horizon"], len(info["quantiles"])) == (CONTEXT, 64, 21)


def test_exports_are_equal_and_have_no_path_of_the_machine(exported, tmp_path):
    checkpoint, folder = exported["bolt"]
    export(checkpoint, tmp_path / "again")
    content = (folder / "model.onnx").read_bytes()
    assert content == (tmp_path / "again" / "model.onnx").read_bytes()
    assert b".py" not in content and b"site-packages" not in content


def test_an_exported_model_runs_without_torch(exported):
    checkpoint, folder = exported["bolt"]
    context = torch.tensor([[np.nan, 1, 2, 4, 3, 5]])
    expected = BaseChronosPipeline.from_pretrained(checkpoint).model(context=context).quantile_preds[0, 4]
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, folder], capture_output=True, text=True, check=True)
    np.testing.assert_allclose(json.loads(run.stdout), expected.detach(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_an_exported_model_runs_in_node(exported, tmp_path):
    checkpoint, folder = exported["bolt"]
    # Its install script only downloads the libraries for GPUs.
    install = ["npm", "install", "--ignore-scripts", "onnxruntime-node@1.30"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("npm cannot install onnxruntime-node")
    (tmp_path / "forecast.js").write_text(NODE)
    run = subprocess.run(["node", "forecast.js", folder], cwd=tmp_path, capture_output=True, text=True, check=True)
    context = torch.tensor([[np.nan, 1, 2, 4, 3, 5]])
    expected = BaseChronosPipeline.from_pretrained(checkpoint).model(context=context).quantile_preds[0, 4]
    np.testing.assert_allclose(json.loads(run.stdout), expected.detach(), rtol=1e-4)


def test_int8_makes_the_file_smaller_and_changes_forecasts_little(tmp_path):
    """The error is in standard deviations of each series; sums that overflow 16 bits make it 0.2."""
    export("builtin:bolt-synth", tmp_path / "float")
    export("builtin:bolt-synth", tmp_path / "int8", int8=True)
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("int8", "float")]
    assert sizes[0] < 0.35 * sizes[1]
    rng, hours = np.random.default_rng(0), 2 * np.pi * np.arange(300) / 24
    contexts = [(3 * np.sin(hours) + np.cumsum(rng.normal(size=300))).astype(np.float32) for _ in range(16)]
    medians = [Forecaster.load(str(tmp_path / name)).quantiles(contexts, 24, [0.5])[0] for name in ("int8", "float")]
    errors = (medians[0] - medians[1])[:, :, 0] / np.std(contexts, axis=1, keepdims=True)
    assert 0 < np.sqrt(np.square(errors).mean()) < 0.05


def test_the_command_forecasts_with_onnx_and_exports_again_when_the_model_changes(
    tiny, uncrossed, tmp_path, run_script
):
    long_frame().to_csv(tmp_path / "series.csv", index=False)
    stamps = []
    for model in (tiny["bolt"], tiny["bolt"], uncrossed["bolt"]):
        for engine in ("torch", "onnx"):
            code, _, error = run_script(
                *("forecast", "series.csv", f"--model={model}", "--horizon=12"),
                *(f"--inference.engine={engine}", "--paths.models_dir=models", f"--output={engine}.parquet"),
            )
            assert code == 0, error
        frames = [pd.read_parquet(f"{engine}.parquet") for engine in ("torch", "onnx")]
        for level in ("0.1", "0.5", "0.9"):
            np.testing.assert_allclose(frames[1][level], frames[0][level], rtol=1e-4)
        stamps.append((tmp_path / "models" / "onnx" / "model.onnx").stat().st_mtime_ns)
    assert stamps[0] == stamps[1] < stamps[2]


def test_an_export_is_made_again_when_the_training_of_equal_weights_says_to_flip(tiny, tmp_path):
    model = shutil.copytree(tiny["bolt"], tmp_path / "model")
    config = Config(export=ExportConfig(output_path=str(tmp_path / "onnx")))
    graph, stamps = tmp_path / "onnx" / "model.onnx", []
    for info in (None, {"flip": True}, {"flip": True}, {"flip": False}):
        if info is not None:
            (model / "training_info.json").write_text(json.dumps(info))
        assert Forecaster.load(provide_export(config, str(model))).flip == bool(info and info["flip"])
        stamps.append(graph.stat().st_mtime_ns)
    assert stamps[0] < stamps[1] == stamps[2] < stamps[3]


def test_an_export_is_checked_like_a_checkpoint(exported, tmp_path, run_script):
    folder = shutil.copytree(exported["bolt"][1], tmp_path / "copy")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(UserError, match="has changed"):
        Forecaster.load(str(folder))
    (folder / "onnx.json").write_text("{}")
    with pytest.raises(UserError, match="has no graph"):
        Forecaster.load(str(folder))
    with pytest.raises(UserError, match="chronos.device"):
        Forecaster.load(str(exported["bolt"][1]), precision="bf16")
    assert run_script("train", "--base", exported["bolt"][1], "--data.train=synthetic:bank")[0] == 2


@pytest.mark.parametrize("model", ["t5", "gpt2", "export"])
def test_models_that_cannot_be_exported_are_refused(exported, tiny, tmp_path, model):
    with pytest.raises(UserError, match="export.model_path"):
        export(exported["bolt"][1] if model == "export" else tiny[model], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_not_replaced(tiny, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="export.output_path"):
        export(tiny["bolt"], tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
