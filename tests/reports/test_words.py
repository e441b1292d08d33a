"""Both languages have the same words to say."""

import re

import pytest

from reports.words import LANGUAGES, TEXT, words_of

LEAVES = {language: words_of(language)._words for language in LANGUAGES}


def test_every_language_has_its_file():
    assert sorted(path.stem for path in TEXT.glob("*")) == sorted(LANGUAGES)


def test_both_languages_have_the_same_names_in_the_same_order():
    assert list(LEAVES["en"]) == list(LEAVES["zh"])


def test_both_languages_say_it_with_the_same_numbers():
    for name in LEAVES["en"]:
        found = [LEAVES[language][name] for language in LANGUAGES]
        assert len({type(words) for words in found}) == 1, name
        if isinstance(found[0], list):
            assert len(found[0]) == len(found[1]), name
        else:
            assert len({frozenset(re.findall(r"\{(\w+)\}", words)) for words in found}) == 1, name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_is_used_and_none_is_cut_off(language):
    sources = "".join(path.read_text("utf-8") for path in TEXT.parent.rglob("*") if path.suffix in (".j2", ".py"))
    for name, words in LEAVES[language].items():
        assert all(isinstance(one, str) for one in (words if isinstance(words, list) else [words])), name
        parts = name.split(".")
        names = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        assert any(f'"{one}"' in sources or f'"{one}.' in sources for one in names), f"{name} is used nowhere"
