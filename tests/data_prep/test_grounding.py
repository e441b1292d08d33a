from hypothesis import given
from hypothesis import strategies as st

from data_prep.grounding import add_marks, split_sentences, used_facts
from retrieval.text import marked_indices, strip_marks

CARD = ["I play tennis on Saturdays.", "I have a grey parrot called Biscuit.", "I drive a night bus in Leeds."]


def test_a_reply_uses_the_facts_whose_words_it_repeats():
    assert used_facts("I drive a night bus, so I sleep late.", CARD, [0, 1, 2]) == {2: 0}
    assert used_facts("Nice! I play tennis. My parrot Biscuit watches.", CARD, [0, 1, 2]) == {0: 1, 1: 2}
    assert used_facts("That sounds great, I love it!", CARD, [0, 1, 2]) == {}
    assert used_facts("Do you play tennis on Saturdays?", CARD, [0, 1, 2]) == {}


def test_only_facts_that_were_shown_can_be_used():
    assert used_facts("I play tennis and have a parrot.", CARD, [1]) == {1: 0}
    assert used_facts("I play tennis.", CARD, []) == {}


def test_the_mark_follows_the_sentence():
    assert add_marks("I play tennis. And you?", {0: 0}) == "I play tennis. [P1] And you?"
    assert add_marks("Hi! I play tennis with my parrot.", {1: 1, 0: 1}) == "Hi! I play tennis with my parrot. [P1][P2]"
    assert add_marks("我喜欢打网球。你呢？", {0: 0}) == "我喜欢打网球。 [P1]你呢？"
    assert add_marks("Thanks!", {}) == "Thanks!"


@given(st.text())
def test_sentences_joined_are_the_text(text):
    assert "".join(split_sentences(text)) == text


@given(st.lists(st.sampled_from(["I play tennis.", "My parrot!", "And you?", "Well"]), min_size=1), st.data())
def test_taking_the_marks_out_gives_the_reply_back(sentences, data):
    reply = " ".join(sentences)
    count = len(split_sentences(reply))
    used = data.draw(st.dictionaries(st.integers(0, 4), st.integers(0, count - 1)))
    marked = add_marks(reply, used)
    assert strip_marks(marked) == reply
    assert set(marked_indices(marked)) == set(used)
