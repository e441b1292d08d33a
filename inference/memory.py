"""What of a long conversation still fits: the oldest exchanges are dropped, summarised or looked up again.

Nothing is kept between requests but summaries that can be made anew, so a conversation may come from anywhere.
"""

import asyncio
import bisect
import hashlib
import json
import operator
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from inference.prompts import Prompt
from inference.tokens import TokenCounter
from retrieval.base import Retriever
from retrieval.text import neutralise, strip_marks

MODES = ("drop", "summary", "retrieve")
STEP = 4  # exchanges that go together, so that most requests begin as the one before did
NOTE = 200  # tokens of what is remembered, at most; of a short prompt an eighth
RETRIEVED = 2  # exchanges that are looked up again
SUMMARIES = 1000  # kept
FRESH_STEPS = 8  # calls of the model that one message can cost

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
LaidOut = Callable[[Prompt], list[dict]]


class TooLong(ValueError):
    """The last message alone, with its facts, does not fit."""


class Memory:
    """Keeps a prompt, together with its reply, within ``max_length`` tokens, which are 256 at least."""

    def __init__(self, counter: TokenCounter, retriever: Retriever, max_length: int):
        self.counter, self.retriever, self.max_length = counter, retriever, max_length
        self.note = min(NOTE, max_length // 8)
        self.summaries: OrderedDict[bytes, str] = OrderedDict()

    def fit(
        self, prompt: Prompt, mode: str, room: int, laid_out: LaidOut = operator.attrgetter("messages")
    ) -> tuple[Prompt, bool]:
        """``prompt`` without the oldest exchanges, if it does not fit in ``room`` tokens; and whether there is room
        left, in all modes but ``drop``, for what is to be remembered of them.

        ``laid_out``: a prompt as it will be sent. Raises TooLong.
        """

        def fits(some: Prompt, spare: int = 0) -> bool:
            return self.counter.prompt(laid_out(some)) <= room - spare

        if fits(prompt):
            return prompt, False
        starts = _starts(len(prompt.found))
        last = prompt.without_first(starts[-1])
        if not fits(last):
            raise TooLong(
                f"The message, its facts and the instructions take {self.counter.prompt(laid_out(last)):,} tokens, and"
                f" there is room for {room:,}; shorten it, or ask for a shorter reply."
            )
        spare = self.note if mode != "drop" and fits(last, self.note) else 0
        kept = prompt.without_first(_first(starts, lambda start: fits(prompt.without_first(start), spare)))
        return kept, spare > 0

    async def remember(self, prompt: Prompt, kept: Prompt, mode: str, ask: Ask) -> Prompt:
        """``kept``, what ``fit`` left of ``prompt``, with what is remembered of the rest.

        ``summary``: the model itself sums it up, below the system line; ``ask(messages, max_tokens)`` lets it.
        ``retrieve``: what matters for the message stands before it. Raises what ``ask`` raises.
        """
        gone = prompt.said[: len(prompt.said) - len(kept.said)]
        if mode == "summary":
            return await self._with_summary(kept, gone, ask)
        return await asyncio.to_thread(self._with_recalled, kept, gone, prompt.said)

    async def _with_summary(self, kept: Prompt, gone: Sequence[str], ask: Ask) -> Prompt:
        summary = await self._summary(gone, ask)
        heading, *_ = self._words()
        return replace(kept, system=f"{kept.system}\n\n{heading}\n{summary}".strip()) if summary else kept

    async def _summary(self, turns: Sequence[str], ask: Ask) -> str:
        """Of all ``turns``, a step at a time, each with the summary of those before; what is known is not asked for.

        Of a long conversation that is new here, only the last ``FRESH_STEPS`` are summed up.
        """
        steps = [turns[start : start + 2 * STEP] for start in range(0, len(turns), 2 * STEP)]
        keys, known = [], hashlib.sha256()
        for step in steps:
            known.update(json.dumps(step).encode())
            keys.append(known.digest())
        done = max((number for number, key in enumerate(keys, start=1) if key in self.summaries), default=0)
        summary = self.summaries[keys[done - 1]] if done else ""
        for step, key in list(zip(steps, keys, strict=True))[max(done, len(steps) - FRESH_STEPS) :]:
            said = await ask([{"role": "user", "content": self._summary_prompt(summary, step)}], self.note)
            summary = self.summaries[key] = self._cut(neutralise(said.strip()), self._room_in_note())
        if keys[-1] in self.summaries:
            self.summaries.move_to_end(keys[-1])
        while len(self.summaries) > SUMMARIES:
            self.summaries.popitem(last=False)
        return summary

    def _summary_prompt(self, before: str, turns: Sequence[str]) -> str:
        """Fits, with a reply of ``note`` tokens: of each turn so much is shown as leaves the others the same."""
        form = SUMMARY[self.retriever.settings.language]
        frame = self.counter.prompt([{"role": "user", "content": form.format(before="", lines="")}])
        share = (self.max_length - frame - 2 * self.note) // len(turns) - 1  # its end of line
        _, *speakers = self._words()
        lines = [self._cut(f"{speakers[n % 2]}: {strip_marks(turn)}", share) for n, turn in enumerate(turns)]
        return form.format(before=f"{before}\n\n" if before else "", lines="\n".join(lines))

    def _with_recalled(self, kept: Prompt, gone: Sequence[str], said: Sequence[str]) -> Prompt:
        """With those exchanges of ``gone`` that fit the message best, in their order."""
        turns = [strip_marks(turn) for turn in gone]
        pairs = list(zip(turns[::2], turns[1::2], strict=True))
        [*_, query] = self.retriever.queries(said)
        [scores] = self.retriever.scores([query], [[" ".join(pair) for pair in pairs]])
        best = sorted(hit.index for hit in self.retriever.best(scores)[:RETRIEVED])
        if not best:
            return kept
        heading, *speakers = self._words()
        share = self._room_in_note() // (2 * RETRIEVED) - 1  # its end of line
        spoken = [f"{who}: {turn}" for n in best for who, turn in zip(speakers, pairs[n], strict=True)]
        lines = [self._cut(line, share) for line in spoken]
        return replace(kept, recalled="\n".join([heading, *lines]))

    def _words(self) -> tuple[str, str, str]:
        return HEADINGS[self.retriever.settings.language]

    def _room_in_note(self) -> int:
        """Tokens that the heading and the ends of line leave."""
        return self.note - self.counter.count(f"\n\n{self._words()[0]}\n") - 2

    def _cut(self, text: str, tokens: int) -> str:
        """``text``, ended with ``…`` where it has ``tokens`` tokens; nothing of it, if not even that fits."""
        while (counted := self.counter.count(text)) > tokens:
            if len(text) == 1:
                return ""
            end = min(len(text) * tokens // counted, len(text) - 1) - 1
            text = text[: max(0, end)].rstrip() + "…"
        return text


def _starts(exchanges: int) -> list[int]:
    """Which exchange can be the first that stays: every ``STEP``-th, and, since the last one must fit, those after."""
    last_step = (exchanges - 1) // STEP * STEP
    return [n for n in range(exchanges) if n % STEP == 0 or n > last_step]


def _first(starts: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The first of ``starts`` that fits; all after it do, and the last one must."""
    return starts[bisect.bisect_left(starts, True, hi=len(starts) - 1, key=fits)]
