import pytest
import torch

from data_prep.errors import InputError
from data_prep.reader import Conversation, Turn
from eval.judging import open_judge
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

CARD = ["I play tennis on Saturdays.", "I have two cats.", "My favourite food is pizza."]
REPLY = "I play tennis. [P1] I have a cat and a dog! [P2] Do you like pizza? Pizza is my favourite. [P3]"
SENTENCES = ["I play tennis.", "I have a cat and a dog!", "Do you like pizza?", "Pizza is my favourite."]
LABELS = ("contradiction", "ENTAILMENT", "neutral")


def save_model(folder, labels):
    """A little BERT with random weights, large enough that its verdicts differ, and a tokenizer of the words here."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = sorted(set(" ".join([*CARD, *SENTENCES]).lower().replace(".", " .").replace("!", " !").split()))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, initializer_range=1.0, id2label=dict(enumerate(labels)),
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("nli"), LABELS)


def talk(reply=REPLY):
    return Conversation("test", 0, (["I sing."], CARD), [Turn(0, "Hi!"), Turn(1, reply)])


def label_of(model, premise, hypothesis):
    """The number of the likeliest label, by transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    read = AutoTokenizer.from_pretrained(model)(premise, hypothesis, return_tensors="pt")
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(model).eval()(**read).logits.softmax(-1).argmax()


ASKED = [(sentence, [fact]) for sentence in SENTENCES for fact in CARD] + [
    (sentence, [*facts]) for sentence in SENTENCES for facts in (CARD[:2], CARD[1:], CARD[:0:-1])
]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_likeliest_entailment_is_supported(tmp_path, place):
    labels = [*LABELS[place:], *LABELS[:place]]
    model = save_model(tmp_path, labels)
    [supports] = open_judge(f"nli:{model}")([talk()])
    found = [supports(*asked) for asked in ASKED]
    assert found == [labels[label_of(model, " ".join(facts), sentence)] == "ENTAILMENT" for sentence, facts in ASKED]
    assert not supports("", CARD) and not supports(SENTENCES[0], [])


def test_the_verdicts_of_this_model_differ(model):
    assert len({int(label_of(model, " ".join(facts), sentence)) for sentence, facts in ASKED}) == 3


def test_no_pair_is_asked_about_twice(model, monkeypatch):
    judge, asked = open_judge(f"nli:{model}"), []
    verdicts = judge._verdicts
    monkeypatch.setattr(judge, "_verdicts", lambda pairs: asked.extend(pairs) or verdicts(pairs))
    first, second = judge([talk(), talk()])
    assert len(asked) == len(SENTENCES) * len(CARD)
    for supports in (first, second):
        supports(SENTENCES[0], CARD[:1])
        supports(SENTENCES[0], CARD[:2])
    assert asked[len(SENTENCES) * len(CARD) :] == [(" ".join(CARD[:2]), SENTENCES[0])]


def test_what_is_too_long_is_refused_and_not_cut(model):
    with pytest.raises(InputError, match=r"has 1\d\d tokens, but .* reads 40; .*'tennis tennis"):
        open_judge(f"nli:{model}")([talk("tennis " * 100)])


def test_a_model_that_is_none_is_one_sentence(tmp_path):
    for name, says in {
        str(tmp_path / "none"): "There is no NLI model at .*none",
        str(ROOT / "models" / "persona-tiny"): "labels LABEL_0, LABEL_1; name a model that calls one entailment",
        save_model(tmp_path, ("no", "neutral", "yes")): "labels no, neutral, yes;",
    }.items():
        with pytest.raises(InputError, match=says):
            open_judge(f"nli:{name}")
