"""``encoder``: a small BERT that reads card, earlier turns and reply together, trained on labelled SPC replies.

``data_prep.labellers.train`` writes its folder; the one in ``data_prep/labellers/model`` comes with the project.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_prep.labellers.base import Labeller, TurnLabels
from data_prep.labellers.storage import load_labeller
from data_prep.labellers.windows import Window, WindowCutter, collate
from data_prep.reader import Conversation
from retrieval.training.precision import computes_in_bf16

BATCH_TOKENS = 8192

# For each turn: the logits of each fact of its speaker's card, shape (sentences,); -inf for a sentence without words.
TurnScores = list[dict[int, np.ndarray]]


class EncoderLabeller(Labeller):
    """Opens a folder of ``storage.save_labeller``. Uses a GPU if there is one.

    Of a fact 40 tokens are read, of a sentence 64, of a turn 160; what follows is not seen.
    """

    def __init__(self, folder: Path):
        network, tokenizer, record = load_labeller(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device)
        self._bf16 = computes_in_bf16()
        self.cutter = WindowCutter(tokenizer)
        self.threshold = record["threshold"]

    def label(self, conversations: Sequence[Conversation]) -> list[TurnLabels]:
        """Facts and sentences whose logit reaches the threshold."""
        return [
            [
                {
                    fact: tuple(np.flatnonzero(logits >= self.threshold).tolist())
                    for fact, logits in turn.items()
                    if logits.max() >= self.threshold
                }
                for turn in conversation
            ]
            for conversation in self.scores(conversations)
        ]

    def scores(self, conversations: Sequence[Conversation]) -> list[TurnScores]:
        """The logits of each conversation, per turn and fact; shows progress if it takes long."""
        places, windows = [], []
        for number, conversation in enumerate(conversations):
            turns = [turn.text for turn in conversation.turns]
            for side, card in enumerate(conversation.cards):
                own = [turn.side == side for turn in conversation.turns]
                for window in self.cutter.cut(self.cutter.tokens(card, turns, own)):
                    places.append(number)
                    windows.append(window)
        found: list[TurnScores] = [[{} for _ in conversation.turns] for conversation in conversations]
        for index, logits in self._logits(windows):
            window, turns = windows[index], found[places[index]]
            for turn, group in groupby(range(len(window.turns)), key=window.turns.__getitem__):
                rows = list(group)
                seen = [window.sentences[row] for row in rows]
                for column, fact in enumerate(window.facts):
                    turns[turn][fact] = np.full(seen[-1] + 1, -np.inf)
                    turns[turn][fact][seen] = logits[rows, column]
        return found

    @torch.inference_mode()
    def _logits(self, windows: Sequence[Window]) -> Iterator[tuple[int, np.ndarray]]:
        """The number of each window with its logits, shape (sentences, facts); the longest windows first."""
        order = sorted(range(len(windows)), key=lambda number: len(windows[number].ids))
        with tqdm(total=len(windows), desc="grounding", unit="window", delay=5, leave=False) as progress:
            while order:
                size = max(1, BATCH_TOKENS // len(windows[order[-1]].ids))
                chosen, order = order[-size:], order[:-size]
                arrays = collate([windows[number] for number in chosen])
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
                    pairs = self.network(**{name: torch.from_numpy(a).to(self.device) for name, a in arrays.items()})
                shapes = [(len(windows[number].turns), len(windows[number].facts)) for number in chosen]
                ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
                for number, shape, logits in zip(chosen, shapes, np.split(pairs.cpu().numpy(), ends), strict=True):
                    yield number, logits.reshape(shape)
                progress.update(len(chosen))
