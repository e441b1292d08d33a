"""What retrievers learn from, and are measured on: ``python -m data_prep.retrieval_examples --spc hub|FOLDER``.

Joins the labels that ship with the project to SPC and writes to ``saves/retriever``:

- ``train.jsonl``: cards and turns, and the facts that the reply uses or that could answer the message, if any. From
  the labelled replies of train, from all conversations of train and New-Persona labelled whole, and, labelled by the
  grounding labeller, from the rest of train;
- ``facts.txt``: the distinct facts of train, a line each, for the idf;
- ``kept_back.gold.jsonl`` (800 replies of train, from conversations that are not in ``train.jsonl``) and
  ``valid.gold.jsonl``, in the gold format of ``data_prep.labels``.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.labellers.registry import LABELLERS
from data_prep.labels import Labelled, gold_row, kept_back, labelled_conversations, labelled_replies
from data_prep.placeholders import fill
from data_prep.reader import CARD_COLUMNS, Conversation, read_conversations, read_tables, split_card
from data_prep.sources import find_files
from retrieval.dialogue import Dialogue

FOLDER = Path("saves/retriever")
TURNS = 5  # the most that a query is made of: as many as the labelled replies show
REPLY_WEIGHT = 5.0  # of a reply labelled by itself: it alone says which facts are relevant
SHARE_OF_NONE = 0.1  # of the turns that use no fact: too many of them would have been answered by one all the same
AT_A_TIME = 500  # conversations that the labeller is given


def examples(labelled: Iterable[Labelled], weight: float, share_of_none: float) -> Iterator[dict]:
    """A row for each labelled turn, unless the whole card fits it.

    ``share_of_none``: of the turns that no fact fits, the share that is taken.
    """
    for item in labelled:
        turns = item.conversation.turns
        for number, used in item.used.items():
            name = f"{item.conversation.split}-{item.conversation.row}-{number}"
            side = turns[number].side
            first = 1 if turns[0].side == side else 0  # the user speaks first
            card = item.conversation.cards[side]
            facts = sorted(used | item.relevant.get(number, frozenset()))
            taken = len(facts) < len(card) if facts else Random(name).random() < share_of_none
            if first < number and taken:
                dialogue = Dialogue(card, [turn.text for turn in turns[max(first, number - TURNS) : number]])
                yield {
                    "id": name, "card": dialogue.card, "turns": dialogue.turns, "facts": facts, "weight": weight,
                }  # fmt: skip


def labelled_by_network(conversations: Sequence[Conversation]) -> Iterator[Labelled]:
    """The turns that use a fact, as the ``encoder`` labeller finds them."""
    labeller = LABELLERS["encoder"]()
    for start in tqdm(range(0, len(conversations), AT_A_TIME), desc="labelling", delay=5, leave=False):
        filled = [fill(conversation) for conversation in conversations[start : start + AT_A_TIME]]
        for conversation, labels in zip(filled, labeller.label(filled), strict=True):
            yield Labelled(conversation, {number: frozenset(used) for number, used in enumerate(labels) if used})


def write_examples(spc: str, out: Path) -> dict[str, int]:
    """Write the files, and return the number of lines of each. Raises InputError for a fault of the source."""
    files = find_files(spc, new_persona=True)
    sources = {split: read_conversations(files[split], split)[0] for split in ("train", "valid", "new_persona")}
    whole = {split: labelled_conversations(sources[split], split) for split in ("train", "new_persona")}
    replies, held = kept_back(labelled_replies(sources["train"], "train"), whole["train"])
    if not held or not all(whole.values()):
        raise InputError(f"{spc} holds no conversation that the project's labels are about; name the original SPC.")
    taken = {item.conversation.row for item in [*whole["train"], *held]}
    rest = [conversation for conversation in sources["train"] if conversation.row not in taken]
    train = [
        *examples(replies, REPLY_WEIGHT, 1.0),
        *(row for labelled in whole.values() for row in examples(labelled, 1.0, SHARE_OF_NONE)),
        *examples(labelled_by_network(rest), 1.0, 0.0),
    ]
    cards = (split_card(cell) for table in read_tables(files["train"]) for name in CARD_COLUMNS for cell in table[name])
    lines = {
        "train.jsonl": [json.dumps(row, ensure_ascii=False) for row in train],
        "facts.txt": list(dict.fromkeys(fact for card in cards for fact in card)),
        "kept_back.gold.jsonl": [json.dumps(gold_row(item), ensure_ascii=False) for item in held],
        "valid.gold.jsonl": [
            json.dumps(gold_row(item), ensure_ascii=False) for item in labelled_replies(sources["valid"], "valid")
        ],
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, texts in lines.items():
        staging = out / f".{name}.staging"
        staging.write_text("\n".join(texts) + "\n", encoding="utf-8")
        staging.replace(out / name)
    return {name: len(texts) for name, texts in lines.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data_prep.retrieval_examples", description=__doc__.split("\n")[0])
    parser.add_argument("--spc", default="hub", help="folder with the SPC CSV files, or `hub` (default: hub)")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder to write (default: {FOLDER})")
    arguments = parser.parse_args()
    try:
        written = write_examples(arguments.spc, arguments.out)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for name, lines in written.items():
        print(f"{arguments.out / name}: {lines:,} lines")


if __name__ == "__main__":
    main()
