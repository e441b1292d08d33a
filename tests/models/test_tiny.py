import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.tiny import CONTROL_TOKENS, OUT, VOCABULARY, WORD_TAGS, make_model, make_tokenizer

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
