import json
import re
import shutil

import pytest
import yaml

from data_prep.formats import FORMATS, dataset_name
from data_prep.inverse import INVERSE_SYSTEM_PROMPTS
from data_prep.rows import facts_of
from data_prep.sources import FILE_NAMES
from retrieval.prompt import SYSTEM_PROMPTS
from tests.conftest import ROOT, in_process, python_m

CONFIG = ROOT / "llamafactory_configs" / "train" / "tiny" / "lora.yaml"
pytestmark = pytest.mark.slow  # it imports LLaMA-Factory


def check(data, config=CONFIG, *arguments):
    return in_process("data_prep.check", "--data", str(data), "--config", str(config), *arguments)


def test_the_sample_passes_and_shows_where_the_loss_falls(sample_data):
    done = python_m("data_prep.check", "--data", str(sample_data), "--config", str(CONFIG))
    assert done.returncode == 0, done.stderr
    for form in FORMATS:
        for split in FILE_NAMES:
            assert dataset_name(form, split) in done.stdout
    row = json.loads((sample_data / "spc_sharegpt_train.json").read_text(encoding="utf-8"))[0]["conversations"]
    lines = done.stdout.splitlines()
    learned = [line.removeprefix("> ").removesuffix("<|im_end|>") for line in lines if line.startswith("> ")]
    assert "\n".join(learned) == "\n".join(turn["value"] for turn in row if turn["from"] == "gpt")


def test_spc_passes(spc_dir, tmp_path):
    data = tmp_path / "data"
    built = python_m("data_prep.build", "--spc", str(spc_dir), "--out", str(data), "--formats", "sharegpt")
    assert built.returncode == 0, built.stderr
    tokenizer = spc_dir.parent / "qwen3_tokenizer"
    folder = tmp_path / "tokenizer"
    if (tokenizer / "tokenizer.json").is_file():
        shutil.copytree(tokenizer, folder)
        folder.chmod(0o755)
        (folder / "tokenizer_config.json").write_text(
            json.dumps(
                {"tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
            )
        )
    else:
        folder = ROOT / "models" / "persona-tiny"
    done = check(data, ROOT / "llamafactory_configs" / "train" / "qwen3-1.7b" / "lora.yaml", "--tokenizer", str(folder))
    assert done.returncode == 0, done.stderr


def add_broken_row(path, whole, change):
    """Put a broken copy of the first row of ``whole`` in front of the rows of a dataset file."""
    row = json.loads(whole.read_text(encoding="utf-8").split("\n")[1].removesuffix(","))
    change(row)
    lines = path.read_text(encoding="utf-8").split("\n")
    lines.insert(1, json.dumps(row, ensure_ascii=False) + ",")
    path.write_text("\n".join(lines), encoding="utf-8")


def last_shown(row):
    return [turn for turn in row["conversations"] if turn["from"] == "human" and facts_of(turn["value"])][-1]


FAULTS = {
    "cites P9": ("sharegpt", lambda row: row["conversations"][1].update(value="I sing. [P9]")),
    "is empty": ("sharegpt", lambda row: row["conversations"][1].update(value=" ")),
    "holds a control token": ("sharegpt", lambda row: row["conversations"][0].update(value="Hi <|im_end|>")),
    "holds a mark outside": ("sharegpt", lambda row: row["conversations"][0].update(value="Hi [P2] there")),
    "do not alternate": ("sharegpt", lambda row: row["conversations"].pop()),
    "more than 2": ("sharegpt", lambda row: last_shown(row).update(value="Hi\n[P1] a\n[P2] b\n[P3] c")),
    "shows another fact": (
        "sharegpt",
        lambda row: row["conversations"].extend(
            [{"from": "human", "value": "Hi\n[P4] Something else."}, {"from": "gpt", "value": "Hm."}]
        ),
    ),
    "none of ours": ("sharegpt", lambda row: row.update(system="You are a bot.")),
    "Field required": ("alpaca", lambda row: row.pop("input")),
    "not permitted": ("alpaca", lambda row: row.update(more="")),
    "same as the chosen": ("dpo", lambda row: row.update(rejected=row["chosen"])),
    "kto_tag": ("kto", lambda row: row.update(kto_tag="yes")),
    "not the inverse one": ("inverse", lambda row: row.update(system=SYSTEM_PROMPTS["en"])),
    "system line is none of ours": ("sharegpt", lambda row: row.update(system=INVERSE_SYSTEM_PROMPTS["en"])),
    "input is not facts": ("inverse", lambda row: row.update(input="Fine.\n[P1] a")),
    "input shows 3 facts": ("inverse", lambda row: row.update(input="[P1] a\n[P2] b\n[P3] c")),
    "nothing but marks": ("inverse", lambda row: row.update(instruction="[P1]")),
    "reply cites no fact": ("inverse", lambda row: row.update(instruction="I sing.")),
    "reply cites P9": ("inverse", lambda row: row.update(instruction="I sing. [P9]")),
    "mark that is of no fact": ("inverse", lambda row: row.update(instruction=row["instruction"] + " [D1]")),
    "message is blank": ("inverse", lambda row: row.update(output=" \u200b\n")),
    "message holds a mark": ("inverse", lambda row: row.update(output="And you? [P1]")),
    "reply holds a control": ("inverse", lambda row: row.update(instruction=row["instruction"] + "<|im_end|>")),
    "input holds a control": ("inverse", lambda row: row.update(input=row["input"] + "<think>")),
    "message holds a control": ("inverse", lambda row: row.update(output="Hi <|im_end|>")),
    "history: List should have at most 0": ("inverse", lambda row: row.update(history=[["Hi", "Hello"]])),
    "are cut off": ("inverse", lambda row: row.update(output="No! " * 500)),  # the last one, so the first row
}


def test_every_fault_is_found(sample_data, tmp_path):
    """All in one folder: a copy and a reading of it for each would take minutes."""
    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    for form, change in FAULTS.values():
        name = f"{dataset_name(form, 'train')}.json"
        add_broken_row(data / name, sample_data / name, change)
    info = json.loads((data / "dataset_info.json").read_text(encoding="utf-8"))
    del info["spc_alpaca_test"]["columns"]["system"]
    (data / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8")) | {"cutoff_len": 500}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = check(data, tmp_path / "short.yaml", "--all")
    assert done.returncode == 1
    assert re.search(r"spc_inverse_train.json, row 1: [0-9]+ tokens, all after 500 are cut off", done.stderr)
    for fault in [*FAULTS, "spc_alpaca_test is missing or changed", "the manifest says"]:
        assert fault in done.stderr, fault


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda data: (data / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda data: (data / "spc_kto_test.json").unlink(), "spc_kto_test.json is missing"),
        (lambda data: (data / "dataset_info.json").write_text("{"), "dataset_info.json is not valid JSON"),
        (lambda data: (data / "spc_dpo_test.json").write_text("[\n"), "ends in the middle"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(sample_data, tmp_path, spoil, names):
    shutil.copytree(sample_data, tmp_path / "data")
    spoil(tmp_path / "data")
    done = check(tmp_path / "data")
    assert done.returncode == 2
    assert names in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_tokenizer_that_is_not_there_is_named(sample_data, tmp_path):
    done = check(sample_data, CONFIG, "--tokenizer", str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr.splitlines()[-1]
    done = check(sample_data, tmp_path / "no.yaml")
    assert done.returncode == 2
    assert "no.yaml" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("form", "breaches"), [("sharegpt", 2), ("inverse", 0)])
def test_whole_rows_in_two_splits_are_breaches_but_for_single_exchanges(form, breaches, capsys):
    from data_prep.check import Contents, _leaks

    leaks = {"leaks": {"train": {"cards": 0, "facts": 1}}}
    manifest = {"settings": {"formats": [form]}, "splits": {"valid": leaks, "test": leaks}}
    contents = {(form, split): Contents(facts={"I sing."}, texts={1}) for split in FILE_NAMES}
    assert len(_leaks(manifest, contents)) == breaches
    assert ("single exchanges" in capsys.readouterr().out) == (form == "inverse")
