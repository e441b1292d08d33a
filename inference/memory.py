"""What of a long conversation still fits: the oldest exchanges are dropped, summarised or looked up again.

Nothing is kept between requests but summaries that can be made anew, so a conversation may come from anywhere.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from inference.prompts import Prompt
from inference.tokens import TokenCounter
from retrieval.base import Retriever
from retrieval.text import neutralise, strip_marks

MODES = ("drop", "summary", "retrieve")
STEP = 4  # exchanges that go together, so that most requests begin as the one before did
NOTE = 200  # tokens of what is remembered, at most
RETRIEVED = 2  # exchanges that are looked up again
SUMMARIES = 1000  # kept

SUMMARY = {
    "en": (
        "Summarise the conversation below in four lines, briefly.\nScene: where and when it takes place.\n"
        "Roles: who speaks, and how they stand to each other.\nTopics: what is talked about.\n"
        "Said: what was told, promised or agreed, and by whom.\n\n{before}{lines}"
    ),
    "zh": (
        "请用四行简短总结下面的对话。\n场景:时间和地点。\n角色:谁在说话,彼此是什么关系。\n话题:谈到了什么。\n"
        "内容:谁说了、答应了或约定了什么。\n\n{before}{lines}"
    ),
}
HEADINGS = {
    "en": ("Earlier in this conversation:", "User", "You"),
    "zh": ("此前的对话:", "用户", "你"),
}

Ask = Callable[[list[dict], int], Awaitable[str]]


class TooLong(ValueError):
    """The last message alone, with its facts, does not fit."""


class Memory:
    """Keeps a prompt, together with its reply, within ``max_length`` tokens."""

    def __init__(self, counter: TokenCounter, retriever: Retriever, max_length: int):
        self.counter, self.retriever, self.max_length = counter, retriever, max_length
        self.summaries: OrderedDict[tuple[str, ...], str] = OrderedDict()

    async def fit(self, prompt: Prompt, mode: str, reply: int, ask: Ask) -> Prompt:
        """``prompt`` without the oldest exchanges, if it does not fit; ``reply`` tokens are left for the answer.

        ``mode``, what happens to them. ``drop``: they are gone. ``summary``: the model itself sums them up, below the
        system line; ``ask(messages, max_tokens)`` lets it. ``retrieve``: those that matter stand before the message.
        Raises TooLong, and what ``ask`` raises.
        """
        room = self.max_length - reply
        if self.counter.prompt(prompt.messages) <= room:
            return prompt
        exchanges = len(prompt.found)
        note = 0 if mode == "drop" or exchanges == 1 else NOTE
        start = self._first_that_fits(prompt, room - note)
        kept = prompt.without_first(start)
        if mode == "summary" and start:
            summary = await self._summary(prompt.said[: 2 * start], ask)
            return replace(kept, system=f"{prompt.system}\n\n{self._heading()}\n{summary}".strip())
        if mode == "retrieve" and start and (lines := self._looked_up(prompt, start)):
            *turns, message = kept.turns
            return replace(kept, turns=[*turns, f"{self._heading()}\n{lines}\n\n{message}"])
        return kept

    def _first_that_fits(self, prompt: Prompt, room: int) -> int:
        exchanges = len(prompt.found)
        system = self.counter.prompt([{"role": "system", "content": prompt.system}])
        roles = ("user", "assistant")
        sizes = [self.counter.turn(roles[number % 2], turn) for number, turn in enumerate(prompt.turns)]
        last_step = (exchanges - 1) // STEP * STEP
        for start in (n for n in range(exchanges) if n % STEP == 0 or n > last_step):
            if system + sum(sizes[2 * start :]) <= room:
                return start
        raise TooLong(
            f"The message and its facts take {sizes[-1]:,} tokens, and there is room for"
            f" {max(0, room - system):,}; shorten it, or ask for a shorter reply."
        )

    async def _summary(self, turns: Sequence[str], ask: Ask) -> str:
        """Of all ``turns``, from the summary of those a step before; a known one is not asked for again."""
        key = tuple(turns)
        if key in self.summaries:
            self.summaries.move_to_end(key)
            return self.summaries[key]
        step = 2 * STEP
        fresh = len(turns) % step or step
        before = await self._summary(turns[:-fresh], ask) + "\n\n" if len(turns) > fresh else ""
        _, *speakers = HEADINGS[self.retriever.settings.language]
        share = (self.max_length // 2) // fresh
        lines = [f"{speakers[n % 2]}: {self._cut(strip_marks(turn), share)}" for n, turn in enumerate(turns[-fresh:])]
        text = SUMMARY[self.retriever.settings.language].format(before=before, lines="\n".join(lines))
        summary = await ask([{"role": "user", "content": text}], NOTE - 20)
        summary = self._cut(neutralise(summary.strip()), NOTE - 20)
        self.summaries[key] = summary
        if len(self.summaries) > SUMMARIES:
            self.summaries.popitem(last=False)
        return summary

    def _looked_up(self, prompt: Prompt, start: int) -> str:
        """The dropped exchanges that fit the message best, in their order."""
        said = [strip_marks(turn) for turn in prompt.said[: 2 * start]]
        pairs = list(zip(said[::2], said[1::2], strict=True))
        [*_, query] = self.retriever.queries(prompt.said)
        [scores] = self.retriever.scores([query], [[" ".join(pair) for pair in pairs]])
        best = sorted(hit.index for hit in self.retriever.best(scores)[:RETRIEVED])
        _, *speakers = HEADINGS[self.retriever.settings.language]
        share = (NOTE - 20) // (2 * RETRIEVED)
        lines = [f"{who}: {self._cut(turn, share)}" for n in best for who, turn in zip(speakers, pairs[n], strict=True)]
        return "\n".join(lines)

    def _heading(self) -> str:
        return HEADINGS[self.retriever.settings.language][0]

    def _cut(self, text: str, tokens: int) -> str:
        """``text`` as one paragraph, ended where it has ``tokens`` tokens."""
        while self.counter.count(text) > tokens:
            text = text[: max(1, len(text) * tokens // self.counter.count(text)) - 1].rstrip() + "…"
            if len(text) <= 1:
                break
        return text
