"""Character cards V2: what other programs write is read, and what is not ours comes back as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.character_card import EXTENSION, from_card, to_card

FOREIGN = {
    "name": "Mira",
    "description": "{{char}} is a potter in Kyoto.\nShe talks to {{user}} about glazes. She dislikes haste.",
    "personality": "calm, dry wit",
    "scenario": "A workshop.",
    "first_mes": "Mind the step.",
    "mes_example": "<START>\n{{user}}: Hi",
    "extensions": {"other/program": {"depth": 4}},
    "character_book": {"entries": []},
}
FACTS = st.lists(st.text(min_size=1).filter(lambda text: text.strip() and "\n" not in text), min_size=1, max_size=8)


@given(name=st.text(max_size=20).map(str.strip), facts=FACTS)
def test_facts_come_back_word_for_word(name, facts):
    card = json.loads(json.dumps(to_card(name, facts)))
    assert (card["spec"], card["spec_version"]) == ("chara_card_v2", "2.0")
    assert from_card(card["data"]) == (name, facts)


def test_a_foreign_card_gives_its_sentences():
    name, facts = from_card(FOREIGN)
    assert name == "Mira"
    assert facts == [
        "Mira is a potter in Kyoto.", "She talks to you about glazes.", "She dislikes haste.", "calm, dry wit",
    ]  # fmt: skip


def test_a_card_whose_facts_did_not_change_goes_out_as_it_came_in():
    assert to_card(*from_card(FOREIGN), FOREIGN)["data"] == FOREIGN


def test_long_lists_of_traits_are_cut_and_null_is_nothing():
    _, facts = from_card({"name": None, "description": "traits: " + "kind, " * 200, "extensions": None})
    assert len(facts) > 2
    assert max(map(len, facts)) <= 500


def test_what_we_do_not_read_is_given_back():
    data = to_card("Mira", ["I am a potter."], FOREIGN)["data"]
    for key in ("scenario", "first_mes", "mes_example", "character_book"):
        assert data[key] == FOREIGN[key]
    assert data["extensions"]["other/program"] == {"depth": 4}


def test_a_description_edited_elsewhere_counts():
    data = to_card("Mira", ["I am a potter.", "I live in Kyoto."])["data"]
    data["description"] = "I am a potter.\nI moved to Nara."
    assert EXTENSION in data["extensions"]
    assert from_card(data) == ("Mira", ["I am a potter.", "I moved to Nara."])


@pytest.mark.parametrize(
    "data",
    [{}, {"description": ""}, {"description": 3}, {"name": 3, "description": "I am."}, {"description": "\n- \n"},
     {"description": "I am.", "extensions": ["a"]}],
)  # fmt: skip
def test_what_is_no_card_is_refused(data):
    with pytest.raises(ValueError, match="character card"):
        from_card(data)
