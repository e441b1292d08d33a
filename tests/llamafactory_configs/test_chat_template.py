"""A model's own chat template gives the token ids of training, for every family of recipes and any text."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llamafactory_configs.config import names
from llamafactory_configs.rules import Configs
from tests.conftest import ROOT, SPC_DIR

pytestmark = pytest.mark.slow
TINY = ROOT / "models" / "persona-tiny"
QWEN = Path(os.environ.get("QWEN_TOKENIZER", SPC_DIR.parent / "qwen3_tokenizer"))  # Qwen2.5 has the same words
# As Qwen3's own template does, with a think block that training never saw.
THINKING = "{% for m in messages %}{{ m.content }}{% endfor %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
FAMILIES = {("tiny", "qwen3_nothink"), ("qwen3", "qwen3_nothink"), ("qwen2.5", "qwen")}


def family(name):
    return name.split("/")[0].split("-")[0]


def test_every_family_of_recipes_is_tested():
    assert {(family(name), config["template"]) for name, config in Configs().by_task["train"].items()} == FAMILIES
    assert {family(name) for name in names("serve")} == {name for name, _ in FAMILIES}


@pytest.fixture(scope="module", params=sorted(FAMILIES), ids=lambda pair: pair[0])
def both(request, tmp_path_factory):
    """The tokenizer of an exported model as others load it, and LLaMA-Factory's template with its tokenizer."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    from llamafactory_configs.chat_template import write_chat_template

    name, template = request.param
    folder = tmp_path_factory.mktemp(name.replace(".", "-"))
    if name == "tiny":
        tokenizer = AutoTokenizer.from_pretrained(TINY)
    elif QWEN.is_dir():
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(QWEN / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>"
        )
    else:
        pytest.skip(f"Qwen's tokenizer is not at {QWEN}; set QWEN_TOKENIZER to its folder")
    tokenizer.chat_template = THINKING
    tokenizer.save_pretrained(folder)
    write_chat_template(folder, template)
    trained = AutoTokenizer.from_pretrained(folder)
    return (
        AutoTokenizer.from_pretrained(folder),
        trained,
        get_template_and_fix_tokenizer(trained, DataArguments(template=template)),
    )


def assert_same(both, talk, system):
    """The ids of a prompt: LLaMA-Factory's, and those of the model's own template, tokenized in one piece."""
    exported, trained, template = both
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(talk)]
    expected, _ = template.encode_oneturn(trained, [*messages, {"role": "assistant", "content": ""}], system)
    before = [{"role": "system", "content": system}] if system else []
    text = exported.apply_chat_template([*before, *messages], add_generation_prompt=True, tokenize=False)
    assert exported.encode(text, add_special_tokens=False) == expected


def test_every_prompt_of_the_sample(both, sample_data):
    for row in json.loads((sample_data / "spc_sharegpt_train.json").read_text(encoding="utf-8")):
        turns = [turn["value"] for turn in row["conversations"]]
        assert_same(both, turns[:-1], row["system"])
    assert_same(both, ["Hi\n[P1] I ride."], None)  # the template's own system line, if it has one


# The little of Go's templates that a Modelfile uses, in Jinja.
GO = {
    "{{ if .System }}": "{% if system %}", "{{ .System }}": "{{ system }}",
    "{{ range .Messages }}": "{% for m in talk %}",
    '{{ if eq .Role "user" }}': "{% if m.role == 'user' %}", "{{ .Content }}": "{{ m.content }}",
    '{{ else if eq .Role "assistant" }}': "{% elif m.role == 'assistant' %}",
}  # fmt: skip


def test_ollamas_template_gives_the_same_text(both, tmp_path):
    exported, *_ = both
    modelfile = (Path(exported.name_or_path) / "Modelfile").read_text(encoding="utf-8")
    text = re.search('TEMPLATE """(.*?)"""', modelfile, re.DOTALL)[1]
    for go, jinja in GO.items():
        text = text.replace(go, jinja)
    text = text.replace("{{ end }}{{ end }}", "{% endif %}{% endfor %}").replace("{{ end }}", "{% endif %}")
    assert not re.search(r"\{\{ (if|end|range|else|\.)", text)
    talk = [{"role": role, "content": f"Said by {role}."} for role in ("user", "assistant", "user")]
    rendered = Environment(keep_trailing_newline=True).from_string(text).render(system="Be brief.", talk=talk)
    messages = [{"role": "system", "content": "Be brief."}, *talk]
    assert rendered == exported.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=3, max_size=3))
def test_any_text(both, texts):
    """But for white space at the ends of a turn, which our prompts do not have."""
    texts = [text.strip() for text in texts]
    if all(texts):
        assert_same(both, texts, "Be brief.")
