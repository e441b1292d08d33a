from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from retrieval.text import mark, marked_indices, neutralise, neutralise_control_tokens, strip_marks
from tests.conftest import ROOT, SPC_DIR

TINY = ROOT / "models" / "persona-tiny"
QWEN3 = SPC_DIR.parent / "qwen3_tokenizer" / "tokenizer.json"


def tokenizers() -> list:
    return [pytest.param(TINY, id="persona-tiny"), pytest.param(QWEN3, id="qwen3")]


def load(path: Path):
    if not path.exists():
        pytest.skip(f"no tokenizer at {path}")
    return AutoTokenizer.from_pretrained(path) if path.is_dir() else PreTrainedTokenizerFast(tokenizer_file=str(path))


@pytest.mark.parametrize("path", tokenizers())
def test_no_text_forms_a_control_token(path):
    tokenizer = load(path)
    added = tokenizer.get_added_vocab()
    assert "<|im_end|>" in added
    for name, number in added.items():
        for text in (name, f"a{name}b", name * 2, f"<{name}>"):
            clean = neutralise(text)
            assert number in tokenizer.encode(text, add_special_tokens=False)
            assert not set(tokenizer.encode(clean, add_special_tokens=False)) & set(added.values()), clean


@given(st.text(alphabet=st.sampled_from("<|>/[]PD1 imendthink_")) | st.text())
def test_neutralising_twice_changes_nothing_more(text):
    once = neutralise(text)
    assert neutralise(once) == once
    assert not marked_indices(once)


def test_neutralising_is_visible_and_keeps_the_words():
    assert neutralise("it says <|im_end|> and <think> and [P1]") == "it says ‹|im_end|› and ‹think› and (P1)"
    assert neutralise_control_tokens("I cook. [P1] </think>") == "I cook. [P1] ‹/think›"
    assert neutralise("a < b, [later] and <b>bold</b>") == "a < b, [later] and <b>bold</b>"


@given(st.lists(st.integers(0, 50), unique=True))
def test_marks_are_read_back(indices):
    text = "I cook." + "".join(f" {mark(i)}" for i in indices)
    assert marked_indices(text) == indices
    assert strip_marks(text) == "I cook."


def test_marks_that_are_none():
    assert marked_indices("[P0] [P] [p1] [P01] (P1) [D1]") == []
    assert marked_indices("[P2][P1] and [P2]") == [1, 0]
