import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.tiny import CONTROL_TOKENS, OUT, VOCABULARY, WORD_TAGS, drill, make_model, make_tokenizer
from tests.conftest import ROOT, python_m

TOKENIZER = AutoTokenizer.from_pretrained(OUT)


@given(st.text())
def test_the_tokenizer_gives_any_text_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text


def test_a_mark_is_always_the_same_tokens():
    marks = {tuple(TOKENIZER.tokenize(f"{before}[P4]{after}")[-5:]) for before in ("a. ", "[P1]") for after in ("",)}
    assert {"P", "4", "]"} <= set.intersection(*map(set, marks))


def test_the_model_is_small_and_its_files_are_too():
    model = AutoModelForCausalLM.from_pretrained(OUT)
    assert model.num_parameters() <= 12_000_000
    assert model.config.model_type == "qwen3"
    assert sum(path.stat().st_size for path in OUT.iterdir()) <= 24 * 2**20
    assert model.dtype == torch.float32  # whoever loads it on a CPU computes with what every CPU computes fast


@pytest.mark.parametrize("name", ["likelihood_persona_tiny", "likelihood_persona_tiny_fine_tuned"])
def test_the_model_card_has_the_numbers_of_the_results(name):
    card = (OUT / "README.md").read_text(encoding="utf-8")
    result = json.loads((ROOT / "reports" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    loss, marks = result["loss"], result["marks"]
    for measure in (
        loss["with_facts"]["all"]["loss_per_token"], loss["with_facts_outside_marks"]["with_marks"]["loss_per_token"],
        loss["without_facts"]["with_marks"]["loss_per_token"], marks["number"]["whole_vocabulary"],
        marks["number_where_a_wrong_fact_is_shown"]["among_shown"], marks["placing"]["f1"],
    ):  # fmt: skip
        assert f"{measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]" in card
    assert f"{result['replies']:,} replies" in card


@pytest.mark.slow
def test_its_own_chat_template_is_the_one_it_was_trained_with(sample_data):
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    template = get_template_and_fix_tokenizer(
        AutoTokenizer.from_pretrained(OUT), DataArguments(template="qwen3_nothink")
    )
    for row in json.loads((sample_data / "spc_sharegpt_valid.json").read_text(encoding="utf-8")):
        roles = ("user", "assistant")
        talk = [{"role": roles[i % 2], "content": turn["value"]} for i, turn in enumerate(row["conversations"])]
        prompt, _ = template.encode_oneturn(TOKENIZER, talk, row["system"])
        messages = [{"role": "system", "content": row["system"]}, *talk[:-1]]
        text = TOKENIZER.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert TOKENIZER.encode(text, add_special_tokens=False) == prompt


def test_it_is_made_from_texts_alike_every_time():
    texts = ["I play the banjo after dinner. [P1]", "Do you have a parrot?"] * 50
    first, second = make_tokenizer(texts), make_tokenizer(texts)
    assert first.get_vocab() == second.get_vocab()
    assert {*CONTROL_TOKENS, *WORD_TAGS} <= set(first.get_vocab())
    assert len(first) <= VOCABULARY
    one, two = make_model(first), make_model(second)
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_drill_repeats_a_fact_that_is_shown_with_its_mark(tmp_path):
    done = python_m(
        "data_prep.build", "--spc", "sample", "--retriever", "random", "--k", "3", "--missed", "keep", "--formats",
        "sharegpt", "--out", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    source = json.loads((tmp_path / "spc_sharegpt_train.json").read_text(encoding="utf-8"))
    listed = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    drill(tmp_path, tmp_path, rows=30)
    drills = json.loads((tmp_path / "spc_sharegpt_drills.json").read_text(encoding="utf-8"))
    assert len(drills) == 30
    messages = {turn["value"].split("\n[P")[0] for row in source for turn in row["conversations"]}
    numbers = set()
    for row in drills:
        turns = [turn["value"] for turn in row["conversations"]]
        assert 2 <= len(turns) <= 16
        for message, reply in zip(turns[::2], turns[1::2], strict=True):
            fact, number = re.fullmatch(r"(.+) \[P(\d)\]", reply).groups()
            assert f"\n[P{number}] {fact}" in message
            assert message.split("\n[P")[0] in messages
            numbers.add(number)
    assert numbers == set("123456789")
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    assert info == listed | {
        "spc_sharegpt_drills": listed["spc_sharegpt_train"] | {"file_name": "spc_sharegpt_drills.json"}
    }
    first = (tmp_path / "spc_sharegpt_drills.json").read_bytes()
    drill(tmp_path, tmp_path, rows=30)
    assert (tmp_path / "spc_sharegpt_drills.json").read_bytes() == first
