"""What systems are asked: messages of SPC's held-out conversations, with the true replies and the facts these use.

Exchanges, placeholders and labels are those that ``make data`` works with, and so is the prompt: with the facts of a
retriever it is, byte for byte, the one of ``make data ARGS="--missed keep --retriever NAME"``. That is the setting in
which a message shows what retrieval finds, misses and all, as in serving.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random

from data_prep.errors import InputError
from data_prep.labellers.registry import LABELLERS
from data_prep.placeholders import fill
from data_prep.provenance import sha256
from data_prep.reader import read_conversations
from data_prep.samples import Sample, SampleSettings, make_samples
from data_prep.sources import HELD_OUT, find_files
from eval.arguments import positive
from eval.retrieval import ORACLE
from retrieval.base import RetrievalSettings, Retriever
from retrieval.controls import NoneRetriever, OracleRetriever
from retrieval.dialogue import Dialogue
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.registry import entries, open_retriever

SYSTEM = SYSTEM_PROMPTS["en"]  # SPC is English


@dataclass(frozen=True)
class Question:
    """A message to be replied to.

    ``sample``: the responder's exchanges up to the one asked, which is the last; no facts are shown yet.
    ``other_card``: the facts of the side that says the message.
    """

    sample: Sample
    other_card: list[str]

    @property
    def id(self) -> str:
        """Split, row of the CSV file and number of the reply's turn: ``test-12-7``, as in the gold format."""
        return f"{self.sample.split}-{self.sample.row}-{self.sample.exchanges[-1].turn}"

    @property
    def reference(self) -> str:
        """The true reply, without marks."""
        return self.sample.dialogue.turns[-1]

    @cached_property
    def record(self) -> dict:
        """The question as JSON has it: all text as the prompt has it, but without facts and marks.

        ``history``: the turns before the message, user, assistant, ..., assistant; ``used``: numbers, from 1, of the
        facts of ``card`` that the reply uses, by the labels that ship.
        """
        *history, message, reference = self.sample.dialogue.turns
        return {
            "id": self.id,
            "card": self.sample.dialogue.card,
            "other_card": Dialogue(self.other_card, []).card,
            "history": history,
            "message": message,
            "reference": reference,
            "used": [fact + 1 for fact in sorted(self.sample.exchanges[-1].used)],
        }


def read_questions(path: Path, split: str) -> list[Question]:
    """Every reply of a CSV file of SPC that training would learn, in order. Raises InputError as the reader does."""
    conversations = [fill(conversation) for conversation in read_conversations(path, split)[0]]
    labels = LABELLERS["encoder"]().label(conversations)
    samples, _ = make_samples(conversations, labels, NoneRetriever(), SampleSettings(missed="keep"))
    cards = {conversation.row: conversation.cards for conversation in conversations}
    return [
        Question(
            replace(sample, exchanges=sample.exchanges[:end], hits=sample.hits[:end]),
            cards[sample.row][1 - sample.side],
        )
        for sample in samples
        for end in range(1, len(sample.exchanges) + 1)
    ]


def draw(questions: Sequence[Question], count: int | None, seed: int) -> list[Question]:
    """``count`` questions drawn from ``seed``, or all: one of every conversation, then a second of each, and so on.

    Replies of one conversation resemble each other, and a bootstrap over replies takes them for independent. A
    smaller sample is the beginning of a larger one. Raises InputError if there are fewer than ``count``.
    """
    if count is not None and count > len(questions):
        raise InputError(f"There are {len(questions):,} replies in all, not {count:,}; take fewer with --samples.")
    by_row: dict[int, list[Question]] = defaultdict(list)
    for question in questions:
        by_row[question.sample.row].append(question)
    rows = sorted(by_row)
    Random(f"rows-{seed}").shuffle(rows)
    placed = []
    for place, row in enumerate(rows):
        own = by_row[row]
        drawn = Random(f"replies-{seed}-{row}").sample(own, len(own))
        placed += [((turn, place), question) for turn, question in enumerate(drawn)]
    return [question for _, question in sorted(placed, key=lambda pair: pair[0])][:count]


def sample_hash(questions: Sequence[Question]) -> str:
    """SHA-256, in hex, over ids, texts and labels of questions in their order."""
    lines = (json.dumps(question.record, sort_keys=True) + "\n" for question in questions)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def shown(questions: Sequence[Question], name: str) -> tuple[list[Sample], str]:
    """The samples of questions with the facts of retriever ``name``, and the retriever's identity.

    All but the last of a sample's ``turns`` is the prompt, earlier replies with the marks of facts that were shown.
    ``oracle`` shows for every message the facts that the true reply uses, the first two if there are more.
    Raises ValueError if the retriever cannot be opened.
    """
    dialogues = [question.sample.dialogue for question in questions]
    if name == ORACLE:
        identity = ORACLE
        hits = [_oracle(question.sample).retrieve([question.sample.dialogue])[0] for question in questions]
    else:
        retriever = open_retriever(name)
        identity = retriever.identity
        hits = retriever.retrieve(dialogues)
    return [replace(question.sample, hits=found) for question, found in zip(questions, hits, strict=True)], identity


def _oracle(sample: Sample) -> Retriever:
    """Knows the replies of one sample: elsewhere the same card may meet the same message, and another reply."""
    # With all turns in the query no two messages of a sample have the same.
    settings = RetrievalSettings(query_turns=sys.maxsize)
    dialogue = sample.dialogue
    queries = OracleRetriever({}, settings).queries(dialogue.turns)
    answers = {
        (query, tuple(dialogue.card)): sorted(exchange.used)
        for query, exchange in zip(queries, sample.exchanges, strict=True)
    }
    return OracleRetriever(answers, settings)


@dataclass(frozen=True)
class Asked:
    """What a system is asked: ``questions``, their ``samples`` with the facts of a retriever, and the record of it."""

    questions: list[Question]
    samples: list[Sample]
    config: dict

    @property
    def ids(self) -> list[str]:
        """Of the questions, in order."""
        return [question.id for question in self.questions]


@dataclass(frozen=True)
class Split:
    """A held-out split of SPC: the file that it is, and every question of it."""

    name: str
    path: Path
    questions: list[Question]

    def asked(self, count: int | None, seed: int, retriever: str) -> Asked:
        """``count`` questions, or all. Raises InputError if there are fewer, ValueError as ``shown`` does."""
        questions = draw(self.questions, count, seed)
        samples, identity = shown(questions, retriever)
        prompts = json.dumps([messages_of(sample) for sample in samples]).encode()
        config = {
            "retriever": retriever,
            "retriever_identity": identity,
            "split": self.name,
            "seed": seed,
            "samples": len(questions),
            "input_sha256": {self.path.name: sha256(self.path)},
            "sample_sha256": sample_hash(questions),
            "prompts_sha256": hashlib.sha256(prompts).hexdigest(),
        }
        return Asked(questions, samples, config)


def open_split(spc: str, name: str) -> Split:
    """``name`` is ``valid`` or ``test``. Raises InputError if SPC is not at ``spc``, or cannot be read."""
    path = find_files(spc)[name]
    return Split(name, path, read_questions(path, name))


def messages_of(sample: Sample) -> list[dict]:
    """The prompt for the last reply of ``sample``, in OpenAI's form."""
    roles = ("user", "assistant")
    turns = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(sample.turns[:-1])]
    return [{"role": "system", "content": SYSTEM}, *turns]


def add_sample_options(parser: argparse.ArgumentParser, samples: int | None = None) -> None:
    """The options that say what is asked; ``samples`` messages, if it is not said how many."""
    add = parser.add_argument
    add("--spc", default="hub", help="folder with the SPC CSV files, `hub` or `sample` (default: hub)")
    add("--split", choices=HELD_OUT, default="test", help="(default: test)")
    few = "ask N replies only, of as many conversations as can be (default: %(default)s)"
    add("--samples", type=positive, default=samples, metavar="N", help=few)
    add("--seed", type=int, default=0, help="which N replies (default: 0)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is asked, and with which facts."""
    add_sample_options(parser)
    whence = "of retrieval/retrievers.yaml, or oracle: the facts that the true reply uses (default: small)"
    parser.add_argument("--retriever", choices=[*entries(), ORACLE], default="small", metavar="NAME", help=whence)
