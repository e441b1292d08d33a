from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from data_prep.labellers.precomputed import MODEL
from data_prep.labellers.windows import CONTEXT, MAX_TOKENS, WindowCutter, collate, last_full_start
from data_prep.reader import read_conversations
from data_prep.sources import FILE_NAMES, SAMPLE
from retrieval.sentences import split_sentences

POSITIONS = 512  # that the encoder has


@pytest.fixture(scope="module")
def cutter() -> WindowCutter:
    return WindowCutter(Tokenizer.from_file(str(Path(MODEL) / "tokenizer.json")))


def views(path, split):
    for conversation in read_conversations(path, split)[0]:
        for side, card in enumerate(conversation.cards):
            yield card, [turn.text for turn in conversation.turns], [turn.side == side for turn in conversation.turns]


def check(cutter, card, turns, own):
    """Every sentence of an own turn meets every fact once, its turn's predecessors are seen, and all fits."""
    tokens = cutter.tokens(card, turns, own)
    met = []
    for window in cutter.cut(tokens):
        assert len(window.ids) <= POSITIONS
        met += [(turn, sentence, fact) for turn, sentence in zip(window.turns, window.sentences, strict=True)
                for fact in window.facts]  # fmt: skip
        for fact, (start, end) in zip(window.facts, window.fact_spans, strict=True):
            assert window.ids[start:end] == tokens.card[fact]
        for turn, sentence, (start, end) in zip(window.turns, window.sentences, window.sentence_spans, strict=True):
            ids = tokens.turns[turn][sentence]
            assert window.ids[start:end] == ids[: end - start]
    spoken = [
        (turn, sentence, fact)
        for turn, text in enumerate(turns) if own[turn]
        for sentence in range(len(split_sentences(text)))
        for fact in range(len(card))
    ]  # fmt: skip
    assert len(met) == len(set(met))
    assert set(met) <= set(spoken)
    return set(spoken) - set(met)


def test_every_sentence_of_the_sample_meets_every_fact(cutter):
    for name in FILE_NAMES.values():
        for card, turns, own in views(SAMPLE / name, "any"):
            unmet = check(cutter, card, turns, own)
            assert all(len(turns[turn]) > 300 for turn, _, _ in unmet)  # past the tokens that a turn is read to


def test_a_long_turn_a_long_card_and_many_facts_fit(cutter):
    assert not check(cutter, ["I have a cat."] * 60, ["Hi!", "I have a cat. And a dog."] * 30, [False, True] * 30)
    check(cutter, ["I have a cat. " * 400] * 3, ["Do you? " * 2000, "Yes. " * 2000] * 4, [False, True] * 4)
    assert list(cutter.cut(cutter.tokens([], ["Hi!", "Hello."], [False, True]))) == []
    check(cutter, [""] * 600, ["Hi!", "Hello."] * 9, [False, True] * 9)


def test_a_reply_far_into_a_talk_sees_the_turns_before_it(cutter):
    turns = ["I went to the market today and bought a lot of fruit.", "Which fruit do you like best of all?"] * 40
    tokens = cutter.tokens(["I like figs."], turns, [False, True] * 40)
    windows = list(cutter.cut(tokens))
    assert len(windows) > 1
    for window in windows[1:]:
        first = window.sentence_spans[0][0]
        before = [token for token in window.ids[:first] if token in (cutter.other, cutter.own)]
        assert len(before) == CONTEXT + 1  # the scored turn's own mark is before its first sentence


def test_windows_for_training_are_full(cutter):
    for card, turns, own in views(SAMPLE / FILE_NAMES["train"], "train"):
        tokens = cutter.tokens(card, turns, own)
        last = last_full_start(tokens)
        window, end = cutter.window(tokens, last, last, range(len(card)))
        assert end == len(turns)
        assert len(window.ids) <= MAX_TOKENS
        if last:
            assert len(window.ids) > MAX_TOKENS - 170


def test_a_batch_keeps_each_window_apart(cutter):
    random = Random(0)
    tokens = [cutter.tokens(*view) for view in views(SAMPLE / FILE_NAMES["valid"], "valid")]
    windows = [window for one in tokens for window in cutter.cut(one)]
    random.shuffle(windows)
    arrays = collate(windows)
    assert arrays["mask"].sum() == sum(len(window.ids) for window in windows)
    for sentence, fact in arrays["pairs"]:
        assert arrays["sentences"][sentence][0] == arrays["facts"][fact][0]
    assert len(arrays["pairs"]) == sum(len(window.facts) * len(window.turns) for window in windows)
