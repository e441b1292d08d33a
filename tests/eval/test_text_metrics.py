from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu as sacrebleu_corpus_bleu
from sacrebleu.metrics import BLEU

from eval.intervals import Statistic, intervals, paired_differences
from eval.text_metrics import (
    bleu_counts,
    bleu_signature,
    corpus_bleu,
    distinct_2_values,
    keyword_counts,
    normalised_words,
    rouge_l,
    text_statistics,
    unigram_f1,
)

CARD = ["I play tennis on Saturdays.", "I have two cats."]
REPLIES = ["I play tennis. [P1] And you?", "The cats sleep all day! [P2]", "Hello!", ""]
TRUTHS = ["I play tennis, a lot. [P1]", "My cats are asleep.", "Hi, how are you?", "Nothing."]
TEXTS = st.text(alphabet="abc .!'", max_size=20)
BATCHES = st.lists(st.tuples(TEXTS, TEXTS), min_size=2, max_size=8)


def value(statistic: Statistic) -> float:
    return float(statistic.measure(*statistic.values, axis=-1))


def corpus(count: int, seed: int = 0) -> list[str]:
    """Replies whose words are as unequally common as those of real ones."""
    random = Random(seed)
    words = [f"w{n}" for n in range(200)]
    weights = [1 / (n + 1) for n in range(200)]
    return [" ".join(random.choices(words, weights, k=random.randint(2, 12))) for _ in range(count)]


def test_words_are_those_of_parlai():
    assert normalised_words("The cat's a HUGE, an old-ish one_two [thing].") == (
        ["cat", "s", "huge", "old", "ish", "one", "two", "thing"]
    )
    assert normalised_words("Another theatre") == ["another", "theatre"]


def test_f1_by_hand():
    assert unigram_f1("I play the tennis!", "i play chess") == pytest.approx(2 * 2 / (3 + 3))
    assert unigram_f1("cats cats cats", "cats") == pytest.approx(2 * 1 / (3 + 1))  # each as often as it occurs
    assert unigram_f1("no", "yes") == unigram_f1("", "") == unigram_f1("a", "the") == 0


def test_rouge_l_by_hand():
    # Common subsequence "i play on saturday" of stems, 4 of 5 words and 4 of 6.
    found = rouge_l("I plays chess on Saturday", "I play tennis on a Saturday")
    assert found == pytest.approx(2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6))
    assert found == RougeScorer(["rougeL"], True).score("I play tennis on a Saturday", "I plays chess on Saturday")[
        "rougeL"
    ].fmeasure  # fmt: skip
    assert rouge_l("", "I play") == rouge_l("", "") == 0


def test_marks_count_on_neither_side():
    unmarked = ["I play tennis. And you?", "The cats sleep all day!", "Hello!", ""]
    marked, bare = text_statistics(REPLIES, TRUTHS, [CARD] * 4), text_statistics(unmarked, TRUTHS, [CARD] * 4)
    assert [value(marked[name]) for name in marked] == [value(bare[name]) for name in bare]
    assert value(marked["words"]) == (5 + 5 + 1 + 0) / 4


@settings(deadline=None, max_examples=50)
@given(BATCHES)
def test_bleu_is_sacrebleus(pairs):
    said, true = map(list, zip(*pairs, strict=True))
    assert corpus_bleu(*bleu_counts(said, true).T) == pytest.approx(sacrebleu_corpus_bleu(said, [true]).score)


def test_bleu_of_longer_texts_and_of_resamples_is_sacrebleus():
    said, true = corpus(30, 1), corpus(30, 2)
    said[:10] = [f"{text} and more" for text in true[:10]]
    counts = bleu_counts(said, true)
    assert corpus_bleu(*counts.T) == pytest.approx(sacrebleu_corpus_bleu(said, [true]).score)
    drawn = np.random.default_rng(0).integers(0, 30, (5, 30))
    again = [sacrebleu_corpus_bleu([said[i] for i in row], [[true[i] for i in row]]).score for row in drawn]
    assert corpus_bleu(*(column[drawn] for column in counts.T), axis=-1) == pytest.approx(again)


def test_the_signature_is_that_of_the_measure():
    metric = BLEU()
    metric.corpus_score(["a"], [["a"]])
    assert bleu_signature() == str(metric.get_signature())
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in bleu_signature()


def test_distinct_2_by_hand():
    # "i play", "play tennis" / "i play", "play chess" / nothing: three different ones of four.
    assert distinct_2_values(["I play tennis.", "I play chess!", "Yes."]).mean() == pytest.approx(3 / 4)
    assert distinct_2_values(["Yes.", ""]).tolist() == [0, 0]


def test_distinct_2_is_as_uncertain_as_the_jackknife_has_it():
    replies = corpus(40)

    def distinct(some: list[str]) -> float:
        bigrams = [pair for text in some for pair in zip(text.split(), text.split()[1:], strict=False)]
        return len(set(bigrams)) / len(bigrams)

    values = distinct_2_values(replies)
    assert values.mean() == pytest.approx(distinct(replies))
    without = np.array([distinct(replies[:n] + replies[n + 1 :]) for n in range(40)])
    jackknife = np.sqrt(39 / 40 * ((without - without.mean()) ** 2).sum())
    assert values.std(ddof=1) / np.sqrt(40) == pytest.approx(jackknife)
    # What a bootstrap of the corpus gives does not even hold the value.
    random = Random(0)
    assert max(distinct(random.choices(replies, k=40)) for _ in range(200)) < distinct(replies)


def test_keywords_by_hand():
    # play, tenni, satur, two (a stop word: out), cats
    assert keyword_counts("I play with my cats.", CARD) == (2, 4)
    assert keyword_counts("I play with my cats.", ["I like it."]) == (0, 0)
    found = text_statistics(["tennis", "tennis"], ["", ""], [CARD, ["I like it."]])["keywords"]
    assert value(found) == 1 / 4  # the card without keywords does not count


@settings(deadline=None, max_examples=30)
@given(BATCHES, st.randoms())
def test_bounds_and_order(pairs, random):
    def values(chosen):
        said, true = zip(*chosen, strict=True)
        return {name: value(found) for name, found in text_statistics(said, true, [CARD] * len(chosen)).items()}

    found = values(pairs)
    assert all(0 <= found[name] <= 1 + 1e-9 for name in ("f1", "rouge_l", "distinct_2", "keywords"))
    assert 0 <= found["bleu"] <= 100 + 1e-9 and found["words"] >= 0
    assert values(random.sample(pairs, len(pairs))) == pytest.approx(found)


def test_what_is_true_is_perfect_and_intervals_hold_their_values():
    true = corpus(60, 3)
    best = intervals(text_statistics(true, true, [CARD] * 60))
    assert best["f1"] == best["rouge_l"] == {"value": 1, "low": 1, "high": 1}
    assert best["bleu"]["value"] == 100
    said = [text if n % 3 else "no" for n, text in enumerate(corpus(60, 4))]
    for found in (best, intervals(text_statistics(said, true, [CARD] * 60))):
        assert all(numbers["low"] <= numbers["value"] <= numbers["high"] for numbers in found.values())


def test_systems_are_compared_on_the_same_replies():
    true = corpus(60, 3)
    better = [text if n % 2 else "no" for n, text in enumerate(true)]
    worse = [text if n % 4 == 1 else "no" for n, text in enumerate(true)]
    found = paired_differences(*(text_statistics(said, true, [CARD] * 60) for said in (better, worse)))
    assert found["f1"]["value"] == 0.25 and found["f1"]["low"] > 0 and found["bleu"]["low"] > 0
