"""The report of scores: its page, which is complete without network, and its tables."""

import json
import re
import shutil
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import numpy as np
import openpyxl
import pandas as pd
import pytest

from pipeline.config import Config, EvaluationConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import make_task
from pipeline.evaluation.baselines import SEASONAL_NAIVE
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.evaluate import collect_findings, score_models
from pipeline.evaluation.forecasts import write_forecasts
from pipeline.evaluation.report.charts import forecast_chart, line_chart
from pipeline.evaluation.report.files import check_report_folder, write_report
from pipeline.evaluation.report.page import render_page, verdict
from pipeline.models.checkpoint import weights_fingerprint

VOID = {"meta", "br", "hr", "img", "link", "input"}
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


NAMES = ["037", "price_$_in_$", r"a\1 \d <&>", "</script>", "=e"]


@pytest.fixture(scope="module")
def tuned(tiny, tmp_path_factory):
    """The folder of a model that was trained from the tiny Bolt, as its training_info.json says."""
    folder = shutil.copytree(tiny["chronos-2"], tmp_path_factory.mktemp("tuned") / "chronos-2")
    info = {"identity": {"base model": weights_fingerprint(tiny["bolt"])}}
    (folder / "training_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def scored(tiny, tuned, tmp_path_factory):
    """The evaluations of two models that are a base and its fine-tuned model, and the file of their forecasts."""
    config = Config(evaluation=EvaluationConfig(models=[str(tiny["bolt"]), str(tuned)], baselines=[]))
    tasks, path = make_tasks(), tmp_path_factory.mktemp("forecasts") / "forecasts.parquet"
    tasks[0] = replace(tasks[0], store=replace(tasks[0].store, item_ids=NAMES))
    with write_forecasts(path, tasks) as writer:
        return score_models(config.scored_models(), tasks, config, writer.write), tasks, path


@pytest.fixture(scope="module")
def config():
    return Config()


@pytest.fixture(scope="module")
def findings(scored, config):
    evaluations, tasks, path = scored
    return collect_findings(evaluations, tasks, config, path, COMMAND)


@pytest.fixture(scope="module")
def folder(findings, tmp_path_factory):
    """The folder of a report."""
    folder = tmp_path_factory.mktemp("report")
    write_report(findings, folder)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "report.html").read_text()


@pytest.fixture
def naive_findings(tmp_path):
    """Return the findings on seasonal naive alone."""

    def make(series, season=7):
        task, config = make_task("one", store_from_arrays([series]), 4, season, 1), Config()
        with write_forecasts(tmp_path / "f.parquet", [task]) as writer:
            evaluations = score_models([], [task], no_baselines, writer.write)
        return collect_findings(evaluations, [task], config, tmp_path / "f.parquet", "")

    no_baselines = Config(evaluation=EvaluationConfig(baselines=[]))
    return make


def constant(html, name):
    """Return the JSON value of a constant in the script of a page."""
    (value,) = re.findall(rf"^const {name} = (.*);$", html, flags=re.MULTILINE)
    return json.loads(value)


def test_the_page_is_well_formed_and_complete_without_network(html):
    page = Page(html)
    assert not page.open and html.startswith("<!doctype html>")
    assert not page.addresses and not re.search(r"@import|url\(", html[: html.index("<script>")])
    assert html.count("<script") == 2 and "window.vegaEmbed=" in html and COMMAND in "".join(page.text)
    assert "shops &lt;&amp;&gt;" in html and len(html) < 5e6


def test_the_answer_is_the_first_sentence_and_warnings_follow(findings, tmp_path):
    assert findings.conclusions[0].startswith(("Fine-tuning", "No clear difference: fine-tuning"))
    write_report(replace(findings, conclusions=["A1 <", "A2"], warnings=["W1"]), tmp_path)
    html, scores = ((tmp_path / name).read_text() for name in ("report.html", "scores.md"))
    assert re.findall(r"<(?:h1|p)(?: class=\"warning\")?>(?:<b>)?(.*?)<", html)[:3] == ["A1 &lt;", "A2", "W1"]
    lines = [line for line in scores.splitlines() if line]
    assert lines[:2] == ["A1 &lt;", "A2"] and lines[2].startswith("| data set") and lines[-1] == "W1"
    without = render_page(replace(findings, conclusions=[], pairs=[]))
    assert re.findall("<h1>(.*?)</h1>", without) == [escape(verdict(findings))]


def test_the_first_table_has_the_mean_scores_and_the_paired_differences(findings, html, folder):
    base, tuned = findings.pairs[0]
    scores = pd.read_csv(folder / "scores.csv").query("WQL == WQL")
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)[1:4]
    cells = [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", row)] for row in rows]
    for model, row in zip((tuned, base, SEASONAL_NAIVE), cells):
        means = scores[scores["model"] == model][["WQL", "MASE", "WAPE", "coverage_80"]].mean()
        assert [cell.split()[0] for cell in row[1:5]] == [f"{mean:.3f}" for mean in means]
        if model != tuned:
            difference = findings.differences[model]
            assert row[5].split()[0] == f"{-difference.reduction:+.1f}%"
            assert f"{-difference.high:+.1f} to {-difference.low:+.1f}" in row[5]
    assert findings.reference == tuned and set(findings.differences) == {base, SEASONAL_NAIVE}


def test_all_models_that_are_tied_with_the_best_are_marked_alike(findings):
    best, second, third = (entry.model for entry in findings.ranks)
    for tied, n_marked in (([], 1), ([second], 2), ([second, third], 3)):
        html = render_page(replace(findings, tied=tied))
        table = html[: html.index("</table>")]
        assert table.count('class="best"') == table.count("<small>best</small>") == n_marked


def test_a_tie_is_called_a_tie(findings):
    second = findings.ranks[1].model
    tied, clear = (verdict(replace(findings, tied=models)) for models in ([second], []))
    first_is_naive = findings.ranks[0].model == SEASONAL_NAIVE
    assert "forecasts best" not in tied and "No clear difference" in tied
    assert ("forecasts best" in clear) != first_is_naive and "No clear difference" not in clear


def test_every_color_of_a_chart_is_a_variable_of_the_theme(html):
    """A fixed color could vanish on one of the two backgrounds."""
    assert set(re.findall(r"var\((--[\w-]+)\)", html)) <= set(re.findall(r"(--[\w-]+):", html))
    charts, (theme,) = constant(html, "charts"), re.findall(r"config: ({.*?}), renderer", html)
    drawn = json.dumps([charts, constant(html, "forecastCharts"), json.loads(theme)])
    colors = re.findall(r'"(?:\w*[cC]olor|stroke|fill)": "([^"]+)"', drawn)
    assert len(colors) > 10 and all(color.startswith("var(--") for color in colors), colors
    assert {name: len(section) for name, section in charts.items()} == {"calibration": 2, "steps": 2, "training": 0}


def test_charts_are_valid_vega_lite():
    import altair as alt

    line = line_chart([{"model": "a", "step": 1, "WQL": None}], "step", "WQL", {"a": "var(--tuned)"}, diagonal=True)
    for chart in (forecast_chart(True, True), forecast_chart(False, False), line):
        alt.Chart.from_dict(chart, validate=True)


def test_the_series_of_the_search_have_their_names_and_last_windows(html, scored):
    _, tasks, path = scored
    last = constant(html, "pictures")["last"]
    assert [(picture["data"], picture["name"]) for picture in last] == [
        *((tasks[0].name, name) for name in NAMES), *(("meters", str(k)) for k in range(3))
    ]  # fmt: skip
    table = pd.read_parquet(path).query("item_id == '037'").groupby("model")["0.5"].apply(list)
    assert len(table) == 3 and last[0]["median"] != last[0]["base"]
    for name in ("median", "base"):
        assert any(np.allclose(last[0][name], values, rtol=1e-4) for values in table)
    assert "</script>" not in html[html.rindex("<script>") : html.rindex("</script>")]


def test_the_same_scores_give_the_same_page(scored, config, html):
    evaluations, tasks, path = scored
    assert render_page(collect_findings(evaluations, tasks, config, path, COMMAND)) == html


def test_a_report_on_seasonal_naive_alone_makes_no_claim(naive_findings):
    for series in (np.arange(30.0) % 7, np.random.default_rng(0).normal(size=30)):
        html = render_page(naive_findings(series))
        assert "forecasts best" not in html and "Forecasts" in html and "Calibration" not in html


def test_a_single_series_has_a_difference_without_an_interval(findings):
    model = findings.pairs[0][0]
    differences = {**findings.differences, model: Comparison(3.0, np.nan, np.nan, 1, 1)}
    html = render_page(replace(findings, differences=differences))
    assert re.search(r"-3\.0%.*no interval", html[: html.index("</table>")])


def test_the_workbook_has_the_tables_and_item_ids_stay_texts(folder, findings):
    book = openpyxl.load_workbook(folder / "report.xlsx")
    assert book.sheetnames == ["scores", "ranking", "by series", "by step", "calibration", "training"]
    sheets = {
        name: pd.DataFrame(list(book[name].values)[1:], columns=next(book[name].values)) for name in book.sheetnames[:5]
    }
    assert set(sheets["by series"]["item_id"]) == {*NAMES, "0", "1", "2"} and len(sheets["by series"]) == 8 * 3
    csv = pd.read_csv(folder / "scores_by_series.csv")
    np.testing.assert_allclose(sheets["by series"]["WQL"], csv["WQL"])
    assert len(sheets["by step"]) == 2 * 3 * 6 and len(sheets["calibration"]) == 2 * 3 * 9
    ranking = sheets["ranking"].set_index("model")
    for model, difference in findings.differences.items():
        row = ranking.loc[model, ["WQL difference %", "WQL difference % low", "WQL difference % high"]]
        assert row.tolist() == pytest.approx([-difference.reduction, -difference.high, -difference.low])


def test_scores_by_window_are_in_a_table(folder):
    table = pd.read_csv(folder / "scores_by_window.csv", dtype={"item_id": str})
    assert list(table.columns)[:5] == ["data set", "item_id", "origin", "model", "WQL"] and len(table) == 8 * 3
    assert table["item_id"][0] == "037"
    assert {"'=e", "</script>"} <= set(table["item_id"]) and "=e" not in set(table["item_id"])  # no formulas


def test_a_sheet_has_a_bounded_number_of_rows(findings, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("pipeline.evaluation.report.files._MAX_SHEET_ROWS", 5)
    write_report(findings, tmp_path)
    book = openpyxl.load_workbook(tmp_path / "report.xlsx")
    assert book["by series"].max_row == 6 and "by series" in caplog.text


def test_a_folder_with_files_of_others_is_refused(tmp_path, naive_findings):
    (tmp_path / "report.xlsx").write_text("mine")
    with pytest.raises(UserError, match="evaluation.report_path: .*report.xlsx"):
        check_report_folder(tmp_path)
    (tmp_path / "report.html").write_text("an older report")
    check_report_folder(tmp_path)
    write_report(naive_findings(np.random.default_rng(0).normal(size=30)), tmp_path)
    assert (tmp_path / "report.xlsx").read_bytes()[:2] == b"PK" and (tmp_path / "scores.csv").exists()
