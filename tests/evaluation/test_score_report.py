"""The report of scores: complete, offline, and in the colors of the reader's theme."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config, EvaluationConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.baselines import SEASONAL_NAIVE, naive_forecast
from pipeline.evaluation.evaluate import collect_findings, score_models
from pipeline.evaluation.report.files import check_report_folder, write_report
from pipeline.evaluation.report.page import render_page

VOID = {"meta", "br", "hr", "img", "link"}
COMMAND = "python scripts/evaluate.py --x 'a b'"


class Page(HTMLParser):
    """The text and the addresses of a page; an assertion fails at a closing tag without its opening tag."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.addresses = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def make_tasks():
    rng = np.random.default_rng(0)
    return [
        make_task(name, store_from_arrays(rng.normal(5, 1, (n, 60)).astype(np.float32), freq), 6, None, 1)
        for name, n, freq in (("shops <&>", 5, "D"), ("meters", 3, "h"))
    ]


@pytest.fixture(scope="module")
def evaluations(tiny):
    config = Config(evaluation=EvaluationConfig(models=[str(tiny["bolt"])], baselines=[]))
    return score_models(config.scored_models(), make_tasks(), config)


@pytest.fixture(scope="module")
def findings(evaluations):
    return collect_findings(evaluations, make_tasks(), Config(), COMMAND)


@pytest.fixture(scope="module")
def folder(findings, tmp_path_factory):
    """The folder of a report."""
    folder = tmp_path_factory.mktemp("report")
    write_report(findings, folder)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "report.html").read_text()


def naive_findings(series, season=7):
    """Return the findings on seasonal naive alone."""
    task = make_task("one", store_from_arrays([series]), 4, season, 1)
    return collect_findings(
        {"one": {SEASONAL_NAIVE: evaluate_task(task, naive_forecast(season))}}, [task], Config(), ""
    )


def test_the_page_is_well_formed_and_complete_without_network(html):
    page = Page(html)
    assert not page.open and html.startswith("<!doctype html>")
    assert all(address.startswith("#") for address in page.addresses)
    assert not re.search(r"<script|@import|url\((?!#)", html)
    assert "shops &lt;&amp;&gt;" in html and COMMAND in "".join(page.text)


def test_every_color_of_a_chart_is_a_variable_of_the_theme(html):
    """A fixed color could vanish on one of the two backgrounds."""
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == 2 + 2 + 2 + 6
    for svg in svgs:
        colors = {color.strip() for color in re.findall(r"(?:fill|stroke):\s*([^;\"]+)", svg)}
        assert colors and all(color == "none" or color.startswith("var(--") for color in colors), colors


def test_no_two_charts_share_an_id(html):
    ids = re.findall(r'<clipPath id="([^"]+)"', html)
    assert len(ids) == len(set(ids)) and len(ids) > 5


def test_every_number_of_the_page_is_in_a_table(html, folder):
    tables = [pd.read_csv(file).select_dtypes("number").stack() for file in folder.glob("*.csv")]
    values = pd.concat(tables).to_numpy()
    written = {f"{value:.3f}" for value in values} | {f"{value:.2f}" for value in values}
    shown = re.findall(r"\b\d+\.\d{3}\b", " ".join(Page(html).text))
    assert len(shown) > 25 and set(shown) <= written


def test_the_same_scores_give_the_same_page(evaluations, html):
    assert render_page(collect_findings(evaluations, make_tasks(), Config(), COMMAND)) == html


def test_a_report_on_seasonal_naive_alone_makes_no_claim():
    for series in (np.arange(30.0) % 7, np.random.default_rng(0).normal(size=30)):
        html = render_page(naive_findings(series))
        assert "forecasts best" not in html and "Ranking" in html


def test_a_tie_is_marked_and_no_model_is_claimed_to_be_best(findings):
    second = findings.ranks[1].model
    tied, clear = (render_page(replace(findings, tied=models)) for models in ([second], []))
    first_is_naive = findings.ranks[0].model == SEASONAL_NAIVE
    assert "forecasts best" not in tied and tied.count("tied with the best") == 1
    assert ("forecasts best" in clear) != first_is_naive and "tied with the best" not in clear


def test_conclusions_and_warnings_come_first_in_that_order(findings, tmp_path):
    write_report(replace(findings, conclusions=["A1 <", "A2"], warnings=["W1"]), tmp_path)
    html, scores = ((tmp_path / name).read_text() for name in ("report.html", "scores.md"))
    assert re.findall(r"<p><b>(.*?)</b></p>", html) == ["A1 &lt;", "A2", "W1"]
    lines = [line for line in scores.splitlines() if line]
    assert lines[:2] == ["A1 <", "A2"] and lines[2].startswith("| data set") and lines[-1] == "W1"


def test_names_with_special_characters_are_drawn(tiny):
    values = np.random.default_rng(0).normal(5, 1, (2, 60)).astype(np.float32)
    store = replace(store_from_arrays(values), item_ids=["price_$_in_$", r"a\1 \d <&>"])
    task = make_task(r"north\south\d $x$", store, 6, 7, 1)
    config = Config(evaluation=EvaluationConfig(models=[str(tiny["bolt"])], baselines=[]))
    html = render_page(collect_findings(score_models(config.scored_models(), [task], config), [task], config, ""))
    assert "price_$_in_$" in html and r"a\1 \d &lt;&amp;&gt;" in html and r"north\south\d $x$" in html


def test_a_folder_with_tables_of_others_is_refused_and_old_tables_are_removed(tmp_path):
    (tmp_path / "training.csv").write_text("mine")
    with pytest.raises(UserError, match="evaluation.report_path: .*training.csv"):
        check_report_folder(tmp_path)
    (tmp_path / "report.html").write_text("an older report")
    check_report_folder(tmp_path)
    write_report(naive_findings(np.random.default_rng(0).normal(size=30)), tmp_path)
    assert not (tmp_path / "training.csv").exists() and (tmp_path / "scores.csv").exists()
