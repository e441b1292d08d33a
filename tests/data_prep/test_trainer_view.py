"""What the trainer and the server make of a conversation."""

import pytest

from data_prep.trainer_view import TrainerView
from tests.conftest import ROOT

TURNS = ["Hi!", "Hello.", "Do you sing?\n[P1] I sing.", "I sing. [P1]"]


def view(template):
    tokenizer = str(ROOT / "models" / "persona-tiny")
    return TrainerView({"template": template, "cutoff_len": 2048, "enable_thinking": False}, tokenizer)


@pytest.mark.slow
def test_without_thoughts_prompt_and_reply_are_the_row_that_is_trained():
    one = view("qwen3_nothink")
    prompt, reply = one.encode_reply(TURNS, "Be kind.")
    ids, labels = one.encode(TURNS, "Be kind.")
    assert prompt + reply == ids
    assert labels[-len(reply) :] == reply


@pytest.mark.slow
def test_a_hybrid_thinker_is_asked_with_one_empty_thought_and_trained_with_one_a_reply():
    one = view("qwen3")
    prompt, reply = (one.tokenizer.decode(ids) for ids in one.encode_reply(TURNS, "Be kind."))
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert (prompt.count("<think>"), reply.count("<think>")) == (1, 0)
    assert one.tokenizer.decode(one.encode(TURNS, "Be kind.")[0]).count("<think>") == 2
