import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import chain

import pytest

from data_prep.data_card import data_card
from data_prep.formats import FORMATS, dataset_name
from data_prep.reader import COLUMNS, read_conversations
from data_prep.sources import FILE_NAMES, NEW_PERSONA, SAMPLE
from retrieval.registry import load_retriever
from tests.conftest import ROOT, python_m
from tests.data_prep.test_samples import EXCHANGE_REASONS


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def check_counts(data):
    """The manifest says what is in the files, and what came in went out or was rejected."""
    manifest = load(data / "manifest.json")
    lines = (data / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    rejects = Counter((reject["split"], reject["reason"]) for reject in map(json.loads, lines))
    for split, counts in manifest["splits"].items():
        reasons = counts["rejects"]
        assert reasons == {reason: count for (of, reason), count in rejects.items() if of == split}
        assert counts["rows_in"] == counts["conversations"] + reasons.get("conversation without a turn", 0)
        lost = sum(reasons.get(reason, 0) for reason in EXCHANGE_REASONS)
        assert counts["replies"] + lost == counts["turns"] - counts["conversations"]
        assert counts["rows_out"] == {
            name: len(load(data / f"{name}.json")) for name in (dataset_name(form, split) for form in FORMATS)
        }
        assert counts["rows_out"][dataset_name("sharegpt", split)] == counts["samples"]
        assert counts["rows_out"][dataset_name("alpaca", split)] == counts["replies"]
        assert counts["rows_out"][dataset_name("inverse", split)] == counts["replies_with_marks"]
        assert counts["replies_with_marks"] <= counts["replies_shown_facts"] <= counts["replies"]
        assert counts["replies_using_facts_not_shown"] == 0
    return manifest


def test_the_sample_builds_and_its_counts_add_up(sample_data):
    manifest = check_counts(sample_data)
    for split, name in FILE_NAMES.items():
        assert manifest["input_sha256"][name] == hashlib.sha256((SAMPLE / name).read_bytes()).hexdigest(), split
    assert manifest["retriever"]["identity"] == load_retriever(sample_data / "retriever.json").identity


@pytest.mark.slow
def test_spc_builds_whole_and_its_counts_add_up(spc_dir, tmp_path):
    done = python_m("data_prep.build", "--spc", str(spc_dir), "--out", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    manifest = check_counts(tmp_path / "data")
    assert [counts["rows_in"] for counts in manifest["splits"].values()] == [8938, 1000, 968]


def test_the_data_card_is_of_this_manifest(sample_data):
    card, manifest = (sample_data / "DATA_CARD.md").read_text(encoding="utf-8"), load(sample_data / "manifest.json")
    assert card == data_card(manifest)
    for counts in manifest["splits"].values():
        for number in (counts["replies"], counts["replies_with_marks"], *counts["rows_out"].values()):
            assert f" {number:,} |" in card
    for reason in manifest["splits"]["train"]["rejects"]:
        assert f"| {reason} |" in card
    assert "none of its text" in card
    assert "CC BY 4.0" in data_card(manifest | {"source": "hub"})


@pytest.mark.parametrize("formats", [list(FORMATS), ["kto"], ["inverse", "sharegpt"]])
def test_the_data_card_describes_the_formats_built_and_no_others(sample_data, formats):
    manifest = load(sample_data / "manifest.json")
    card = data_card(manifest | {"settings": manifest["settings"] | {"formats": formats}})
    assert re.findall(r"^- `(\w+)`: .*\.$", card, re.MULTILINE) == formats
    for form in FORMATS:
        assert (FORMATS[form].says in card) == (form in formats)


def test_leaks_are_what_the_files_share(sample_data):
    cards, facts = {}, {}
    for split, name in FILE_NAMES.items():
        conversations = read_conversations(SAMPLE / name, split)[0]
        cards[split] = {tuple(card) for conversation in conversations for card in conversation.cards}
        facts[split] = {fact for card in cards[split] for fact in card}
    splits = load(sample_data / "manifest.json")["splits"]
    for split in ("valid", "test"):
        leaks = {"cards": len(cards[split] & cards["train"]), "facts": len(facts[split] & facts["train"])}
        assert splits[split]["leaks"] == {"train": leaks}
    assert splits["valid"]["leaks"]["train"]["facts"] > 0
    assert "leaks" not in splits["train"]


def test_formats_and_new_persona_on_demand(tmp_path):
    folder = broken_copy(tmp_path)
    shutil.copy(SAMPLE / FILE_NAMES["test"], folder / NEW_PERSONA["new_persona"])
    arguments = ("--spc", str(folder), "--out", str(tmp_path / "data"), "--new-persona", "--formats", "sharegpt")
    assert python_m("data_prep.build", *arguments).returncode == 0
    names = {f"spc_sharegpt_{split}" for split in (*FILE_NAMES, *NEW_PERSONA)}
    assert set(load(tmp_path / "data" / "dataset_info.json")) == names
    assert {path.stem for path in (tmp_path / "data").glob("spc_*")} == names
    leaks = load(tmp_path / "data" / "manifest.json")["splits"]["test"]["leaks"]
    assert leaks["new_persona"]["cards"] > leaks["train"]["cards"] == 0


def test_datasets_that_a_build_leaves_out_do_not_stay_behind(sample_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    (data / "mine.json").write_text("[]")
    done = python_m("data_prep.build", "--spc", "sample", "--out", str(data), "--formats", "kto")
    assert done.returncode == 0, done.stderr
    names = {f"spc_kto_{split}" for split in FILE_NAMES}
    assert {path.stem for path in data.glob("spc_*")} == set(load(data / "dataset_info.json")) == names
    assert (data / "mine.json").exists()


@pytest.mark.parametrize("share", ["2", "-0.1", "half"])
def test_a_share_that_is_none_is_named(share):
    done = python_m("data_prep.build", "--distractors", share)
    assert done.returncode == 2
    assert share in done.stderr


def test_every_column_and_tag_is_spelled_out(sample_data):
    info = load(sample_data / "dataset_info.json")
    assert set(info) == {dataset_name(form, split) for form in FORMATS for split in FILE_NAMES}
    for name, entry in info.items():
        assert entry["ranking"] == name.startswith("spc_dpo")
        [row, *_] = load(sample_data / entry["file_name"])
        assert len(entry["columns"]) == 13
        assert len(entry["tags"]) == 7
        assert {column for column in entry["columns"].values() if column} == set(row), name


def test_alpaca_and_sharegpt_say_the_same(sample_data):
    conversations = load(sample_data / "spc_sharegpt_valid.json")
    rows = iter(load(sample_data / "spc_alpaca_valid.json"))
    for conversation in conversations:
        turns = [turn["value"] for turn in conversation["conversations"]]
        for end in range(1, len(turns), 2):
            row = next(rows)
            message = "\n".join(part for part in (row["instruction"], row["input"]) if part)
            assert [*chain(*row["history"]), message, row["output"]] == turns[: end + 1]
            assert row["system"] == conversation["system"]
    assert next(rows, None) is None


def test_two_builds_are_identical(sample_data, tmp_path):
    assert python_m("data_prep.build", "--spc", str(SAMPLE), "--out", str(tmp_path / "data")).returncode == 0
    for path in sample_data.iterdir():
        if path.name not in ("manifest.json", "DATA_CARD.md"):  # they name the source
            assert path.read_bytes() == (tmp_path / "data" / path.name).read_bytes(), path.name


def broken_copy(tmp_path, **changes):
    folder = tmp_path / "spc"
    shutil.copytree(SAMPLE, folder)
    for split, content in changes.items():
        (folder / FILE_NAMES[split]).write_text(content, encoding="utf-8")
    return folder


HEADER = ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("", "is empty"),
        (HEADER, "no row"),
        (HEADER.replace("user 2 personas", "cards") + "a,b,c\n", "'user 2 personas'"),
        (HEADER + ",,User 1: Hi\n", "no fact"),
        (HEADER + 'a,b,"c\n', "cannot be read"),
        (HEADER + "I sing.,I cook.,User 1: Hi,more\n" * 3, "cannot be read"),
    ],
)
def test_a_bad_file_is_one_sentence_and_leaves_the_old_data(tmp_path, content, names):
    folder = broken_copy(tmp_path, train=content)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.json").write_text("{}")
    done = python_m("data_prep.build", "--spc", str(folder), "--out", str(tmp_path / "data"))
    assert done.returncode == 2
    sentence = done.stderr.splitlines()[-1]
    assert names in sentence
    assert FILE_NAMES["train"] in sentence
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine.json"]


def test_a_comma_too_many_at_the_ends_of_lines_shifts_nothing(tmp_path):
    row = 'I sing.,I cook.,"User 1: Hi\nUser 2: I cook.",\n'
    folder = broken_copy(tmp_path, train=HEADER + row * 3, test=HEADER + "I sing.,I cook.,User 1: Hi,\n")
    done = python_m("data_prep.build", "--spc", str(folder), "--out", str(tmp_path / "data"), "--labeller", "overlap")
    assert done.returncode == 0, done.stderr
    [row, *_] = load(tmp_path / "data" / "spc_sharegpt_train.json")
    assert [turn["value"] for turn in row["conversations"]] == ["Hi\n[P1] I cook.", "I cook. [P1]"]
    assert load(tmp_path / "data" / "spc_sharegpt_test.json") == []


def test_a_killed_run_leaves_the_previous_data(sample_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    big = broken_copy(tmp_path)
    rows = (SAMPLE / FILE_NAMES["train"]).read_text(encoding="utf-8").split("\n", 1)[1]
    (big / FILE_NAMES["train"]).write_text(HEADER + rows * 40, encoding="utf-8")
    command = [sys.executable, "-m", "data_prep.build", "--spc", str(big), "--out", str(data)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    staged = tmp_path / ".data.staging" / "spc_alpaca_train.json"
    deadline = time.monotonic() + 60
    while not staged.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert staged.exists()
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    done = python_m("data_prep.build", "--spc", "sample", "--out", str(data))
    assert done.returncode == 0, done.stderr
    assert not staged.exists()
    check_counts(data)


def test_datasets_of_ones_own_survive_a_build(sample_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    (data / "mine").mkdir()
    (data / "mine" / "rows.json").write_text("[]")
    info = load(data / "dataset_info.json") | {"my_dataset": {"file_name": "mine/rows.json"}}
    (data / "dataset_info.json").write_text(json.dumps(info))
    assert python_m("data_prep.build", "--spc", "sample", "--out", str(data)).returncode == 0
    assert (data / "mine" / "rows.json").read_text() == "[]"
    assert load(data / "dataset_info.json")["my_dataset"] == {"file_name": "mine/rows.json"}


def test_a_broken_dataset_info_of_ones_own_is_named_before_the_work(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text('{"mine": {},}')
    done = python_m("data_prep.build", "--spc", "sample", "--out", str(tmp_path / "data"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "dataset_info.json" in done.stderr
