"""The page of scores: whole, alone, and in the colours of the reader."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config, EvaluationConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate, make_task
from pipeline.evaluation.baselines import SEASONAL_NAIVE, naive_forecast
from pipeline.evaluation.evaluate import check_report_folder, report_on, score_models
from pipeline.forecasting.plots import DrawnForecast, forecast_figure, save_figure

VOID = {"meta", "br", "hr", "img", "link"}


class Balanced(HTMLParser):
    """Fails where a tag closes that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_startendtag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    tasks = [
        make_task(name, store_from_arrays(rng.normal(5, 1, (n, 60)).astype(np.float32), freq), 6, None, 1)
        for name, n, freq in (("shops <&>", 5, "D"), ("meters", 3, "h"))
    ]
    config = Config(evaluation=EvaluationConfig(models=[str(nano["bolt"])], baselines=[]))
    scored = score_models(config.scored_models(), tasks, config)
    report_on(scored, tasks, config, "python scripts/evaluate.py --x 'a b'", folder)
    parser = Balanced()
    parser.feed((folder / "report.html").read_text())
    return folder, parser, scored


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(report):
    folder, parser, _ = report
    text = (folder / "report.html").read_text()
    assert not parser.open and text.startswith("<!doctype html>")
    assert all(address.startswith("#") for address in parser.addresses)
    assert not re.search(r"<script|@import|url\((?!#)", text) and "shops &lt;&amp;&gt;" in text


def test_every_colour_is_the_readers(report):
    """What matplotlib drew in a fixed colour would vanish on one of the two backgrounds."""
    charts = re.findall(r"<svg.*?</svg>", (report[0] / "report.html").read_text(), flags=re.DOTALL)
    assert len(charts) == 2 + 2 + 2 + 6
    for chart in charts:
        colours = re.findall(r"(?:fill|stroke):\s*([^;\"]+)", chart)
        assert colours and all(one == "none" or one.startswith("var(--") for one in map(str.strip, colours)), set(
            colours
        )


def test_no_two_charts_share_the_name_of_a_part(report):
    names = re.findall(r'<clipPath id="([^"]+)"', (report[0] / "report.html").read_text())
    assert len(names) == len(set(names)) and len(names) > 5


def test_every_number_of_the_page_is_in_a_table_beside_it(report):
    folder, parser, _ = report
    values = pd.concat([pd.read_csv(file).select_dtypes("number").stack() for file in folder.glob("*.csv")]).to_numpy()
    shown = {f"{value:.3f}" for value in values} | {f"{value:.2f}" for value in values}
    numbers = re.findall(r"\b\d+\.\d{3}\b", " ".join(parser.text))
    assert len(numbers) > 25 and set(numbers) <= shown


def test_the_same_scores_give_the_same_page(report, tmp_path, nano):
    folder, _, scored = report
    rng = np.random.default_rng(0)
    tasks = [
        make_task(name, store_from_arrays(rng.normal(5, 1, (n, 60)).astype(np.float32), freq), 6, None, 1)
        for name, n, freq in (("shops <&>", 5, "D"), ("meters", 3, "h"))
    ]
    report_on(scored, tasks, Config(), "python scripts/evaluate.py --x 'a b'", tmp_path)
    assert (tmp_path / "report.html").read_text() == (folder / "report.html").read_text()


def test_seasonal_naive_alone_is_a_report_too(tmp_path):
    task = make_task("one", store_from_arrays([np.arange(30.0) % 7]), 4, 7, 1)
    scored = {"one": {SEASONAL_NAIVE: evaluate(task, naive_forecast(7))}}
    report_on(scored, [task], Config(), "python", tmp_path)
    assert "Nobody can be said to be better" in (tmp_path / "report.html").read_text()
    noisy = make_task("one", store_from_arrays([np.random.default_rng(0).normal(size=30)]), 4, 7, 1)
    report_on({"one": {SEASONAL_NAIVE: evaluate(noisy, naive_forecast(7))}}, [noisy], Config(), "python", tmp_path)
    assert "No model is better" in (tmp_path / "report.html").read_text()


def test_names_of_any_kind_are_drawn(nano, tmp_path):
    values = np.random.default_rng(0).normal(5, 1, (2, 60)).astype(np.float32)
    store = replace(store_from_arrays(values), item_ids=["price_$_in_$", r"a\1 \d <&>"])
    task = make_task(r"north\south\d $x$", store, 6, 7, 1)
    config = Config(evaluation=EvaluationConfig(models=[str(nano["bolt"])], baselines=[]))
    report_on(score_models(config.scored_models(), [task], config), [task], config, "python", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "price_$_in_$" in page and r"a\1 \d &lt;&amp;&gt;" in page and r"north\south\d $x$" in page
    drawn = DrawnForecast("price_$_in_$", values[0], *values[1, :18].reshape(3, 6))
    save_figure(forecast_figure([drawn]), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_values_without_neighbours_and_horizons_of_one_step_are_drawn():
    gap = np.nan
    history = np.array([3, gap, gap, 4])
    axis = forecast_figure([DrawnForecast("A", history, *np.array([[5.0], [4.0], [6.0]]))]).axes[0]
    points = [line.get_xydata().tolist() for line in axis.lines if line.get_linestyle() == "None"]
    assert points == [[[-3, 3], [0, 4]], [[1, 5]]]
    band = axis.collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1, band.y0, band.y1) == (0.5, 1.5, 4, 6)


def test_a_folder_with_tables_that_no_report_wrote_is_refused_and_old_tables_go(report, tmp_path):
    _, _, scored = report
    (tmp_path / "training.csv").write_text("mine")
    with pytest.raises(UserError, match="training.csv of your own"):
        check_report_folder(tmp_path)
    (tmp_path / "report.html").write_text("an older report")
    check_report_folder(tmp_path)
    task = make_task("one", store_from_arrays([np.random.default_rng(0).normal(size=30)]), 4, 7, 1)
    report_on({"one": {SEASONAL_NAIVE: evaluate(task, naive_forecast(7))}}, [task], Config(), "python", tmp_path)
    assert not (tmp_path / "training.csv").exists() and (tmp_path / "scores.csv").exists()
