"""The report says what the JSON says, all of it, and nothing else; what is missing it calls not measured."""

import copy
import json
import os
import re
import time
from contextlib import chdir

import pytest

from reports import build, comparison, figures, render
from reports.load import FILES, ReportError, read_results
from reports.words import LANGUAGES, words_of
from tests.conftest import ROOT, in_process
from tests.reports import synthetic

PICTURES = {"loss.svg", "headline.svg"}
NOT_MEASURED = {language: words_of(language)("not_measured") for language in LANGUAGES}
# Numbers of comparison.json that the report does not hold: differences in what is no headline measure, those to the
# base of what is not the last model with a retriever (they stand there by model or by retriever too), and
# details of the training run that stand in the loss curve or were summed up.
HEADLINE = "|".join(f"{group}/{measure}/" for group, measure, _ in synthetic.HEADLINE)
NOT_SHOWN = re.compile(
    rf"systems/\d+/difference_\w+/(?!{HEADLINE})|systems/[123]/difference_to_base/|training/curve/|training/record/legs/\d+/(from|to)_step"
)


def leaves(tree, path=()):
    """The path and value of every number in JSON."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key), value


def put(tree, path, value):
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


def shape(text):
    """What kind each line is, and how many cells it has."""
    kinds = []
    for line in text.splitlines():
        kind = re.match(r"#+ |\| ?|- |!\[|```|", line)[0]
        kinds.append((kind, len(re.findall(r"(?<!\\)\|", line)) if kind.startswith("|") else 0))
    return kinds


def markdown(results, language="en", tmp=ROOT):
    folder = tmp / "results"
    return render.markdown(results, language, PICTURES, folder, tmp)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("reports") / "results", synthetic.results())


@pytest.fixture(scope="module")
def files(folder):
    return build.report_files(folder, folder.parent)


def test_every_number_of_the_comparison_that_changes_changes_the_report_and_nothing_else_of_it():
    results = dict.fromkeys(FILES) | {"comparison": synthetic.comparison({"none": "none", "small": "static-1"})}
    before = markdown(results)
    unchanged = []
    for path, value in leaves(results["comparison"]):
        put(results["comparison"], path, value * 3 + 7)
        after = markdown(results)
        put(results["comparison"], path, value)
        assert shape(after) == shape(before), path
        changed = sum(one != other for one, other in zip(before.splitlines(), after.splitlines(), strict=True))
        assert changed <= 12, path
        if after == before:
            unchanged.append("/".join(map(str, path)))
    assert unchanged
    assert [path for path in unchanged if not NOT_SHOWN.match(path)] == []
    assert markdown(results) == before


def test_every_point_of_the_loss_curve_changes_its_figure():
    training = synthetic.comparison()["training"]
    training["curve"]["loss"][2] = 2.2  # at a gap no step shows
    before = figures.loss_curve(training)
    for path, value in leaves(training["curve"]):
        if path[0] == "epochs":  # the figure is over steps
            continue
        put(training["curve"], path, value + 1)
        assert figures.loss_curve(training) != before, path
        put(training["curve"], path, value)
    assert figures.loss_curve(training) == before


def test_a_changed_measure_changes_the_figure_of_the_headline(files):
    changed = synthetic.comparison()
    changed["systems"][4]["measures"]["text"]["f1"]["high"] += 0.5
    assert figures.headline(comparison.Comparison(changed)) != files["figures/headline.svg"]


def test_the_same_json_gives_the_same_bytes_wherever_and_whenever(folder, files, monkeypatch, tmp_path):
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7\nfont.size: 30\n")
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    with chdir(folder.parent):
        here = os.path.relpath(folder)
        assert build.report_files(type(folder)(here), type(folder)()) == files


def test_nothing_is_missing_where_nothing_is_missing(files):
    for language, said in NOT_MEASURED.items():
        text = files[f"{build.name_of(language)}.md"].decode()
        told = [line for line in text.splitlines() if said in line]
        assert len(told) == 2  # that it would say so, and the verdict's definition
        assert "Undefined" not in text and "None" not in text and "{" not in text


@pytest.mark.parametrize("gone", [*FILES, "all"])
def test_without_a_file_the_report_says_that_its_part_was_not_measured(gone, folder, tmp_path):
    left = {name: content for name, content in synthetic.results().items() if gone not in (name, "all")}
    results = read_results(synthetic.write(tmp_path / "results", left))
    whole = read_results(folder)
    for language, said in NOT_MEASURED.items():
        text, full = markdown(results, language, tmp_path), markdown(whole, language, folder.parent)
        assert re.findall("^## .*", text, re.MULTILINE) == re.findall("^## .*", full, re.MULTILINE)
        assert (text.count(said) > full.count(said)) == (gone != "remarks")
    if gone in ("comparison", "all"):
        assert figures.figures(results) == {}


def test_without_any_one_number_or_part_of_the_comparison_there_is_a_report():
    whole = dict.fromkeys(FILES) | {"comparison": synthetic.comparison({"none": "none", "small": "static-1"})}

    def parts(tree, path=()):
        for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
            yield (*path, key)
            if path[:1] == ("headline",) or key == "measures" or str(key).startswith("difference_"):
                continue  # tested elsewhere
            if isinstance(value, dict | list):
                yield from parts(value, (*path, key))

    for path in parts(whole["comparison"]):
        results = copy.deepcopy(whole)
        tree = results["comparison"]
        for key in path[:-1]:
            tree = tree[key]
        del tree[path[-1]]
        assert shape(markdown(results))[0] == ("# ", 0)


def test_a_missing_number_is_no_zero(folder):
    results = read_results(folder)
    del results["comparison"]["systems"][4]["measures"]["text"]["f1"]["low"]
    [row] = re.findall(r"^\| F1 `f1` .*", markdown(results).split("small against")[1].split("Command")[0], re.MULTILINE)
    assert row.count("not measured") == 2  # the cell and its verdict


def test_nan_is_not_measured(folder, tmp_path):
    content = synthetic.results()
    content["comparison"]["true_replies"]["text"]["f1"]["value"] = float("nan")
    text = markdown(read_results(synthetic.write(tmp_path / "results", content)), "en", tmp_path)
    assert "| *true replies* | not measured |" in text


def test_both_languages_have_the_same_structure(files):
    pages = [files[f"{build.name_of(language)}.html"].decode() for language in LANGUAGES]
    tags = [re.findall(r"<(?:h\d|table|thead|tr|t[dh]|img|li|ul|pre|p)\b", page) for page in pages]
    assert tags[0] == tags[1]
    assert len(re.findall("<table", pages[0])) > 20
    images = [re.findall(r'<img src="([^"]+)"', page) for page in pages]
    assert images[0] == images[1] == ["figures/loss.svg", "figures/headline.svg", "results/screenshots/page-1.png"]


def test_every_row_of_a_table_is_in_a_table_and_every_table_names_its_command(files):
    for language in LANGUAGES:
        page = files[f"{build.name_of(language)}.html"].decode()
        assert "<p>|" not in page and "|</p>" not in page
        command = words_of(language)("command", command="")
        after = re.findall(r"</table>\n<p>(.*)", page)
        assert len(after) == page.count("</table>")
        assert all(line.startswith(command) for line in after)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (
            "weights",
            [["tiny/full", {"model.safetensors": "b" * 64}], ["tiny/pretrain", {"model.safetensors": "a" * 64}]],
        ),
        ("retrievers", []),
        ("sample_sha256", "0" * 64),
        ("max_tokens", 8),
        ("judge", "overlap"),
    ],
)
def test_remarks_on_another_comparison_are_not_shown(folder, tmp_path, name, other):
    content = synthetic.results()
    content["remarks"]["about"][name] = other
    text = markdown(read_results(synthetic.write(tmp_path / "results", content)), "en", tmp_path)
    assert "remark" not in text
    assert markdown(read_results(folder), "en", folder.parent).count("A *remark* on") == 6


def test_the_summary_counts_what_is_better_beyond_doubt():
    content = synthetic.comparison()
    apart = {"value": 9, "low": 8, "high": 10}
    for group, measure, better in synthetic.HEADLINE:
        sign = 1 if better == "higher" else -1
        turned = {end: sign * apart[end if sign > 0 else {"low": "high", "high": "low"}.get(end, end)] for end in apart}
        content["systems"][4]["measures"][group][measure] = turned
        content["systems"][4]["difference_to_base"][group][measure] = turned
    results = dict.fromkeys(FILES) | {"comparison": content}
    said = "**tiny/full + small**: better than tiny/pretrain + none in 8 of 8 headline measures"
    [line] = set(re.findall(rf"{re.escape(said)}.*", markdown(results)))
    assert "others" not in line
    content["systems"][4]["difference_to_base"]["text"]["bleu"] = {"value": 1, "low": -1, "high": 3}
    [line] = set(re.findall(r"\*\*tiny/full \+ small\*\*: better.*", markdown(results)))
    assert line.endswith("in 7 of 8 headline measures, with intervals that do not overlap."
                         " The others: BLEU (no difference shown).")  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_model_alone_is_held_against_itself(language):
    content = synthetic.comparison()
    content["config"] |= {"models": content["config"]["models"][:1], "spc": "sample"}
    content["systems"] = content["systems"][:3]
    words = words_of(language)
    text = markdown(dict.fromkeys(FILES) | {"comparison": content}, language)
    assert words("summary.data.sample") in text.split("## ")[1]
    for tuned in ("contributions.title", "contributions.tuning_retrieval"):
        assert words(tuned) not in text
    whole = markdown(dict.fromkeys(FILES) | {"comparison": synthetic.comparison()}, language)
    assert words("contributions.title") in whole
    assert words("summary.data.sample") not in whole.split("## ")[1]


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("general", "{", "general.json is not JSON"),
        ("judge", "[]", "judge.json holds no JSON object"),
        ("comparison", '{"systems": [{}], "n": "many"}', "'many' where a number belongs"),
        ("screenshots", '{"screenshots": [{"file": "screenshots/page-1.png", "sha256": "0"}]}', "take the screenshots"),
    ],
)
def test_a_broken_file_is_one_sentence(name, text, said, tmp_path):
    folder = synthetic.write(tmp_path / "results", {})
    (folder / f"{name}.json").write_text(text)
    done = in_process("reports.build", "--results", str(folder), "--out", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert not list(tmp_path.glob("report*"))


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(ReportError, match="is no folder"):
        read_results(tmp_path / "none")


def test_the_results_that_are_here_make_a_report(tmp_path):
    results = read_results(ROOT / "reports" / "results")
    for language in LANGUAGES:
        text = render.markdown(results, language, set(), ROOT / "reports" / "results", tmp_path)
        found = json.loads((ROOT / "reports/results/retrieval_valid.json").read_text())["results"]["small"]["used"]
        assert f"{found['recall@2']['value']:.3f} [" in text
