"""The notebooks of examples/ run from start to end, and their stored outputs have no error and no path of a machine."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
FORECASTS = {
    "covariates": ["shop", "day", "target_name", "predictions", "0.1", "0.5", "0.9"],
    "flags_and_embeddings": [
        *("region", "month", "target_name", "actual", "predictions", "lower", "upper", "score", "is_anomaly")
    ],
    "fine_tune": ["store", "day", "target_name", "predictions", "0.1", "0.5", "0.9"],
    "service_and_batch": ["meter", "hour", "target_name", "predictions", "0.1", "0.5", "0.9"],
}


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def check_facts(notebook, name):
    """No cell failed, and one shows a forecast, or flags, with the columns of the series."""
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    shown = [output.data.get("text/html", "") for output in outputs(notebook) if "data" in output]
    headers = [re.findall(r"<th>([^<]+)</th>", html.partition("</thead>")[0]) for html in shown]
    assert FORECASTS[name] in headers


def test_each_notebook_is_checked():
    assert [path.stem for path in NOTEBOOKS] == sorted(FORECASTS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_complete_and_of_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == [*range(1, len(counts) + 1)]
    check_facts(notebook, path.stem)
    assert not re.findall(r"(?<![\w.:/])/(?:home|root|tmp|dev|usr|work|Users|private|var)/\S*", path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_with_few_steps(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # of chronos-native
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = "STEPS = 2"
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    check_facts(notebook, path.stem)
    assert sorted(tmp_path.rglob("training_info.json"))
