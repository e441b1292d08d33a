import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.marks import add_marks
from retrieval.sentences import split_sentences
from retrieval.text import marked_indices, strip_marks


def test_the_mark_follows_the_sentence():
    assert add_marks("I play tennis. And you?", {0: (0,)}) == "I play tennis. [P1] And you?"
    assert (
        add_marks("Hi! I play tennis with my parrot.", {1: (1,), 0: (1,)})
        == "Hi! I play tennis with my parrot. [P1][P2]"
    )
    assert add_marks("我喜欢打网球。你呢？", {0: (0,)}) == "我喜欢打网球。 [P1]你呢？"
    assert add_marks("I swim. Why? I swim daily.", {1: (0, 2)}) == "I swim. [P2] Why? I swim daily. [P2]"
    assert add_marks("Thanks!", {}) == "Thanks!"
    with pytest.raises(ValueError, match="no sentence 1"):
        add_marks("Thanks!", {0: (1,)})


@given(st.lists(st.sampled_from(["I play tennis.", "My parrot!", "And you?", "Well"]), min_size=1), st.data())
def test_taking_the_marks_out_gives_the_reply_back(sentences, data):
    reply = " ".join(sentences)
    count = len(split_sentences(reply))
    used = data.draw(st.dictionaries(st.integers(0, 4), st.sets(st.integers(0, count - 1), min_size=1)))
    marked = add_marks(reply, used)
    assert strip_marks(marked) == reply
    assert set(marked_indices(marked)) == set(used)
