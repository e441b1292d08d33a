import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.marks import add_marks, split_sentences
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


def test_an_abbreviation_ends_no_sentence():
    assert split_sentences("I see Dr. Lee on Mondays. He is kind.") == ["I see Dr. Lee on Mondays. ", "He is kind."]
    assert split_sentences("Mr. and Mrs. Hill live on St. James St. now.") == [
        "Mr. and Mrs. Hill live on St. James St. now."
    ]
    assert len(split_sentences("I read J.K. Rowling, J. R. R. Tolkien and Ursula K. Le Guin")) == 1
    assert split_sentences("I live in the U.S. I like it.") == ["I live in the U.S. ", "I like it."]
    assert split_sentences("So do I. Great!") == ["So do I. ", "Great!"]


@given(st.text())
def test_sentences_joined_are_the_text(text):
    assert "".join(split_sentences(text)) == text


@given(st.lists(st.sampled_from(["I play tennis.", "My parrot!", "And you?", "Well"]), min_size=1), st.data())
def test_taking_the_marks_out_gives_the_reply_back(sentences, data):
    reply = " ".join(sentences)
    count = len(split_sentences(reply))
    used = data.draw(st.dictionaries(st.integers(0, 4), st.sets(st.integers(0, count - 1), min_size=1)))
    marked = add_marks(reply, used)
    assert strip_marks(marked) == reply
    assert set(marked_indices(marked)) == set(used)
