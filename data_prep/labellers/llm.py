"""``llm``: a language model behind any OpenAI-compatible endpoint reads each conversation and names the used facts.

The endpoint is the ``openai`` package's own choice (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``); ``LABELLER_MODEL`` names
the model. Answers are kept in ``saves/llm_labels.jsonl``, so that a run that stops goes on where it was.
"""

import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

from openai import OpenAI, OpenAIError
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.keys import conversation_key
from data_prep.labellers.base import Labeller, TurnLabels
from data_prep.reader import Conversation
from retrieval.sentences import split_sentences

INSTRUCTIONS = """\
You annotate a dialogue. Below are the numbered facts of one speaker, OWN, and the turns of a dialogue, OWN's \
sentences numbered turn.sentence. For each of them decide which of OWN's facts it states, paraphrases or plainly \
builds on, so that a citation of the fact after the sentence would be right.
Count: a paraphrase of the same fact; an answer that the fact makes true ("Three of them!" to "Do you have dogs?"); \
first-person detail about the thing that a fact names; a named favourite under a broad fact; a list with the fact in it.
Do not count: mere similarity of topic; agreement with what the other side says of itself; a question; a bare \
confirmation or thanks; general praise of an activity; a near but different claim; a contradiction of the fact.
Most sentences use no fact. Answer with a JSON list alone, one [turn, sentence, fact] for each use, [] if there is none.
"""
CACHE = Path("saves/llm_labels.jsonl")
TRIES = 3
WORKERS = 8


class LlmLabeller(Labeller):
    """Raises InputError if the endpoint or the model's name is missing, or if the model's answers cannot be read."""

    def __init__(self, cache: Path = CACHE):
        self.model = os.environ.get("LABELLER_MODEL", "")
        if not self.model:
            raise InputError("The llm labeller needs LABELLER_MODEL=, the name of a model that the endpoint serves.")
        try:
            self.client = OpenAI()
        except OpenAIError:
            raise InputError("The llm labeller needs OPENAI_API_KEY= (any word, if the endpoint asks none).") from None
        self.cache = cache
        self.known = {}
        if cache.is_file():
            whole, _, _ = cache.read_text(encoding="utf-8").rpartition("\n")  # a killed run leaves half a line
            self.known = dict(json.loads(line) for line in whole.splitlines())
            cache.write_text(whole + "\n" * bool(whole), encoding="utf-8")

    def label(self, conversations: Sequence[Conversation]) -> list[TurnLabels]:
        """One dictionary per turn; a request per side with a card, several at a time."""
        jobs = [
            (conversation, side)
            for conversation in conversations
            for side in (0, 1)
            if conversation.cards[side] and self._key(conversation, side) not in self.known
        ]
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        with self.cache.open("a", encoding="utf-8") as cache, ThreadPoolExecutor(WORKERS) as pool:
            answers = pool.map(lambda job: self._ask(*job), jobs)
            for job, uses in zip(jobs, tqdm(answers, total=len(jobs), desc=self.model, delay=5), strict=True):
                self.known[self._key(*job)] = uses
                cache.write(json.dumps([self._key(*job), uses]) + "\n")
                cache.flush()
        return [self._labels(conversation) for conversation in conversations]

    def _key(self, conversation: Conversation, side: int) -> str:
        return f"{self.model} {crc32(INSTRUCTIONS.encode())} {conversation_key(conversation)} {side}"

    def _labels(self, conversation: Conversation) -> TurnLabels:
        labels: TurnLabels = [{} for _ in conversation.turns]
        for side in (0, 1):
            for turn, sentence, fact in sorted(self.known.get(self._key(conversation, side), ())):
                labels[turn][fact] = (*labels[turn].get(fact, ()), sentence)
        return labels

    def _ask(self, conversation: Conversation, side: int) -> list[tuple[int, int, int]]:
        """The uses of one side as (turn, sentence, fact), counted from 0."""
        prompt = f"{INSTRUCTIONS}\n{show(conversation, side)}"
        for _ in range(TRIES):
            try:
                answer = self.client.chat.completions.create(
                    model=self.model, messages=[{"role": "user", "content": prompt}], temperature=0
                )
            except OpenAIError as error:
                raise InputError(f"The endpoint {self.client.base_url} failed: {error}.") from None
            text = answer.choices[0].message.content or ""
            uses = parse_uses(text, conversation, side)
            if uses is not None:
                return uses
        raise InputError(
            f"{self.model} did not answer with a list of uses but with {text[:80]!r}; try a stronger model."
        )


def show(conversation: Conversation, side: int) -> str:
    """Card and turns as the model sees them; facts, turns and sentences counted from 1."""
    lines = [f"Fact {number}: {fact}" for number, fact in enumerate(conversation.cards[side], start=1)]
    for number, turn in enumerate(conversation.turns, start=1):
        if turn.side == side:
            sentences = enumerate(split_sentences(turn.text), start=1)
            lines.append("OWN: " + " ".join(f"({number}.{place}) {text.strip()}" for place, text in sentences))
        else:
            lines.append(f"OTHER: {turn.text}")
    return "\n".join(lines)


def parse_uses(text: str, conversation: Conversation, side: int) -> list[tuple[int, int, int]] | None:
    """The first JSON list of [turn, sentence, fact] in ``text``, from 0; None if none is there or it is wrong."""
    found = re.search(r"\[\s*(?:\[[\d\s,]*\]\s*,?\s*)*\]", text)
    if not found:
        return None
    try:
        uses = [(turn - 1, sentence - 1, fact - 1) for turn, sentence, fact in json.loads(found[0])]
    except (json.JSONDecodeError, ValueError, TypeError):
        return None
    for turn, sentence, fact in uses:
        if not (0 <= turn < len(conversation.turns) and conversation.turns[turn].side == side):
            return None
        if not (0 <= sentence < len(split_sentences(conversation.turns[turn].text))):
            return None
        if not 0 <= fact < len(conversation.cards[side]):
            return None
    return uses
