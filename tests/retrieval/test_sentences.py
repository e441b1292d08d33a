from hypothesis import given
from hypothesis import strategies as st

from retrieval.sentences import split_sentences


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
