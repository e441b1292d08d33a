import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path

import pytest

from data_prep.data_card import data_card
from data_prep.folder import replaced_folder
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
        assert counts["replies_with_marks"] <= counts["replies_shown_facts"] <= counts["replies"]
        assert counts["replies_using_facts_not_shown"] == 0
    return manifest


def test_the_sample_builds_and_its_counts_add_up(sample_data):
    manifest = check_counts(sample_data)
    for split, name in FILE_NAMES.items():
        assert manifest["input_sha256"][name] == hashlib.sha256((SAMPLE / name).read_bytes()).hexdigest(), split
    assert manifest["settings"]["retriever"] == load_retriever(sample_data / "retriever.json").name


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


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path):
    done = python_m("data_prep.build", "--spc", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nowhere" in done.stderr
    (tmp_path / "empty").mkdir()
    done = python_m("data_prep.build", "--spc", str(tmp_path / "empty"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert FILE_NAMES["train"] in done.stderr


def test_without_the_hub_one_sentence_names_the_other_sources(tmp_path):
    # The real hub client, pointed at a port where nobody listens: HF_ENDPOINT is honoured, or it would go elsewhere.
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    done = python_m("data_prep.build", "--out", str(tmp_path / "data"), env=env)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert "SPC=sample" in sentence
    assert "SPC=<folder" in sentence
    assert "http://127.0.0.1:9" in sentence
    assert not (tmp_path / "data").exists()


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the hub does for the three files of the dataset, with the sample's content or what ``spoil`` makes."""

    spoil = staticmethod(lambda content: content)

    def do_GET(self):
        repository = "/datasets/google/Synthetic-Persona-Chat/resolve/main/data/"
        path = SAMPLE / self.path.removeprefix(repository)
        if not self.path.startswith(repository) or not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.spoil(content))

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@contextmanager
def hub(spoil=None):
    handler = type("Handler", (FakeHub,), {"spoil": staticmethod(spoil)} if spoil else {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def build_from_hub(endpoint, tmp_path):
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    return python_m("data_prep.build", "--out", str(tmp_path / "data"), env=env)


def test_the_hub_is_the_default_source_and_a_mirror_will_do(sample_data, tmp_path):
    with hub() as endpoint:
        done = build_from_hub(endpoint, tmp_path)
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "data" / "manifest.json")["source"] == "hub"
    for name in ("spc_sharegpt_train.json", "retriever.json", "rejects.jsonl"):
        assert (tmp_path / "data" / name).read_bytes() == (sample_data / name).read_bytes()


def test_a_mirror_that_breaks_off_is_one_sentence(tmp_path):
    with hub(lambda content: content[:20]) as endpoint:
        done = build_from_hub(endpoint, tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "SPC=sample" in done.stderr.splitlines()[-1]


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


def test_a_run_killed_between_the_renames_is_mended(tmp_path):
    (tmp_path / ".data.previous").mkdir()
    (tmp_path / ".data.previous" / "old").touch()
    with pytest.raises(RuntimeError, match="stop"), replaced_folder(tmp_path / "data"):
        raise RuntimeError("stop")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["old"]


def test_an_interrupt_between_the_renames_puts_the_old_folder_back(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").touch()
    real = Path.rename

    def rename(path, target):
        if path.name == ".data.staging":
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), replaced_folder(tmp_path / "data") as staging:
        (staging / "new").touch()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["old"]


def test_a_linked_folder_stays_a_link(tmp_path):
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "data")
    for name in ("first", "second"):
        with replaced_folder(tmp_path / "data") as staging:
            (staging / name).touch()
    assert (tmp_path / "data").is_symlink()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["first", "second"]


def test_a_broken_dataset_info_of_ones_own_is_named_before_the_work(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text('{"mine": {},}')
    done = python_m("data_prep.build", "--spc", "sample", "--out", str(tmp_path / "data"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "dataset_info.json" in done.stderr


def test_two_builds_at_once_do_not_mix(tmp_path):
    with replaced_folder(tmp_path / "data") as staging:
        done = python_m("data_prep.build", "--spc", "sample", "--out", str(tmp_path / "data"))
        assert done.returncode == 2
        assert "Another run" in done.stderr
        (staging / "whole").touch()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["whole"]
