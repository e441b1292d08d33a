from data_prep.labellers.overlap import OverlapLabeller, used_facts
from data_prep.reader import Conversation, Turn

CARD = ["I play tennis on Saturdays.", "I have a grey parrot called Biscuit.", "I drive a night bus in Leeds."]


def test_a_reply_uses_the_facts_whose_words_it_repeats():
    assert used_facts("I drive a night bus, so I sleep late.", CARD) == {2: (0,)}
    assert used_facts("Nice! I play tennis. My parrot Biscuit watches.", CARD) == {0: (1,), 1: (2,)}
    assert used_facts("That sounds great, I love it!", CARD) == {}
    assert used_facts("Do you play tennis on Saturdays?", CARD) == {}


def test_each_side_is_held_against_its_own_card():
    turns = [Turn(0, "I play tennis."), Turn(1, "I play tennis, and I drive a bus.")]
    conversation = Conversation("train", 0, (CARD, CARD[2:]), turns)
    assert OverlapLabeller().label([conversation]) == [[{0: (0,)}, {0: (0,)}]]
