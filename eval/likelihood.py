"""How likely a model finds the true replies, and whether it would cite as they do:
``python -m eval.likelihood --model models/persona-tiny --data data --split valid --json OUT``.

Loss in nats per token and per character (the latter compares models with different tokenizers) and perplexity, exp of
the loss per token, over all replies, those with marks and those without. The tokens that end a turn count; characters
are those of the replies. Under three conditions:

``with_facts``                as trained: facts in the messages, marks in the replies
``with_facts_outside_marks``  the same replies, over the tokens outside of marks: to be compared with
``without_facts``             no facts in any message and no marks in any reply

With 95 % intervals from a bootstrap over the file's rows, a row being one side of a conversation.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from random import Random

import numpy as np
from pydantic import ValidationError

from data_prep.errors import InputError
from data_prep.formats import dataset_name
from data_prep.rows import Sharegpt, breaches, facts_of, message_of
from eval.arguments import positive
from eval.intervals import RESAMPLES, SEED, cell, f1, precision, recall, with_interval
from eval.mark_scores import MarkCounts, MarkReader, align, outside_marks
from eval.models import weight_files
from eval.results import check_writable, write_result
from eval.teacher_forced import TEMPLATE, Scores, TeacherForced
from retrieval.text import mark_runs, strip_marks

CONDITIONS = ("with_facts", "with_facts_outside_marks", "without_facts")
GROUPS = {"all": (True, False), "with_marks": (True,), "without_marks": (False,)}


@dataclass(frozen=True)
class ReplyLoss:
    """One reply under one condition. ``nats``: minus the log-probability of its tokens, those that end it included."""

    row: int
    condition: str
    has_marks: bool
    nats: float
    tokens: int
    characters: int


def read_conversations(path: Path, samples: int | None, seed: int) -> dict[int, Sharegpt]:
    """Rows of a ShareGPT file by number, from 0: all, or as many as asked for, drawn from ``seed``.

    Raises InputError if the file is missing, is not one of ours, or has fewer than two of these rows with marks.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run `make data` first.") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); run `make data` again.") from None
    numbers = range(len(rows))
    if samples is not None and samples < len(rows):
        numbers = sorted(Random(seed).sample(numbers, samples))
    found = {}
    for number in numbers:
        try:
            found[number] = Sharegpt.model_validate(rows[number])
            fault = next(breaches(found[number], k=sys.maxsize), None)
        except ValidationError as error:
            fault = error.errors()[0]["msg"]
        if fault:
            raise InputError(f"{path}, row {number + 1}: {fault}; run `make data` again.")
    if sum(any(mark_runs(reply) for reply in turns_of(row)[1::2]) for row in found.values()) < 2:
        raise InputError(f"Fewer than two of the {len(found)} rows of {path} have a reply with marks; take more.")
    return found


def turns_of(row: Sharegpt) -> list[str]:
    """User, assistant, user, ..., assistant."""
    return [message.value for message in row.conversations]


def without_facts(turns: Sequence[str]) -> list[str]:
    """The same turns with no facts in the messages and no marks in the replies."""
    return [strip_marks(turn) if number % 2 else message_of(turn) for number, turn in enumerate(turns)]


def measure(scorer: TeacherForced, rows: dict[int, Sharegpt]) -> tuple[list[ReplyLoss], dict[int, MarkCounts]]:
    """The loss of every reply under every condition, and by row what became of its marks."""
    turns = {number: turns_of(row) for number, row in rows.items()}
    plain = {number: without_facts(each) for number, each in turns.items()}
    shown = {fact for each in turns.values() for message in each[::2] for fact in facts_of(message)}
    reader = MarkReader(scorer.tokenizer, sorted(shown))
    losses, marks = [], {}
    encoded = [scorer.encode(turns[number], row.system) for number, row in rows.items()]
    found = scorer.score(encoded, reader.watched, progress="with facts")
    for number, conversation, scored in zip(rows, encoded, found, strict=True):
        counts = []
        for reply, (message, text) in enumerate(zip(turns[number][::2], turns[number][1::2], strict=True)):
            places, scores = conversation.replies[reply], scored[reply]
            offsets = align(scorer.tokenizer, text, [conversation.ids[place] for place in places])
            outside = outside_marks(text, offsets)
            everywhere = np.ones_like(outside)
            losses.append(_loss(number, CONDITIONS[0], text, scores, everywhere, len(text)))
            losses.append(_loss(number, CONDITIONS[1], text, scores, outside, len(strip_marks(text))))
            counts.append(reader.count(text, offsets, facts_of(message), scores))
        marks[number] = MarkCounts(*np.sum([astuple(count) for count in counts], axis=0))
    encoded = [scorer.encode(plain[number], row.system) for number, row in rows.items()]
    found = scorer.score(encoded, progress="without facts")
    for number, scored in zip(rows, found, strict=True):
        for text, bare, scores in zip(turns[number][1::2], plain[number][1::2], scored, strict=True):
            everywhere = np.ones(len(scores.best), bool)
            losses.append(_loss(number, CONDITIONS[2], text, scores, everywhere, len(bare)))
    return losses, marks


def _loss(row: int, condition: str, text: str, scores: Scores, tokens: np.ndarray, characters: int) -> ReplyLoss:
    nats = -float(scores.log_probabilities[tokens].sum(dtype=np.float64))
    return ReplyLoss(row, condition, bool(mark_runs(text)), nats, int(tokens.sum()), characters)


def _ratio(part: np.ndarray, whole: np.ndarray, axis: int = -1) -> np.ndarray:
    return part.sum(axis) / whole.sum(axis)


def _perplexity(nats: np.ndarray, tokens: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.exp(_ratio(nats, tokens, axis))


def summarise_losses(losses: Sequence[ReplyLoss]) -> dict[str, dict]:
    """By condition and group of replies: each measure with its interval, and what it counts.

    A group that fewer than two rows have replies of is left out.
    """
    found: dict[str, dict] = {}
    for condition in CONDITIONS:
        found[condition] = {}
        for group, of_group in GROUPS.items():
            chosen = [loss for loss in losses if loss.condition == condition and loss.has_marks in of_group]
            rows = sorted({loss.row for loss in chosen})
            if len(rows) < 2:
                continue
            sums = np.zeros((3, len(rows)))
            for loss in chosen:
                sums[:, rows.index(loss.row)] += loss.nats, loss.tokens, loss.characters
            nats, tokens, characters = sums
            found[condition][group] = {
                "loss_per_token": with_interval(_ratio, nats, tokens),
                "perplexity": with_interval(_perplexity, nats, tokens),
                "nats_per_character": with_interval(_ratio, nats, characters),
                "rows": len(rows),
                "replies": len(chosen),
                "tokens": int(tokens.sum()),
                "characters": int(characters.sum()),
            }
    return found


def summarise_marks(marks: Sequence[MarkCounts]) -> dict[str, dict]:
    """Each measure with its interval; what the counts mean stands at ``MarkCounts``."""
    columns = {field.name: np.array([getattr(count, field.name) for count in marks]) for field in fields(MarkCounts)}

    def share(part: str, whole: str) -> dict[str, float] | None:
        some = columns[whole] > 0
        return with_interval(_ratio, columns[part][some], columns[whole][some]) if some.sum() > 1 else None

    places = (columns["tp"], columns["fp"], columns["fn"])
    sums = {name: int(column.sum()) for name, column in columns.items() if "chance" not in name}
    return {
        "number": {
            "whole_vocabulary": share("right", "marks"),
            "among_shown": share("right_shown", "marks"),
            "among_shown_by_chance": share("chance", "marks"),
            "marks": sums["marks"],
        },
        "number_where_a_wrong_fact_is_shown": {
            "among_shown": share("open_right_shown", "open_marks"),
            "among_shown_by_chance": share("open_chance", "open_marks"),
            "marks": sums["open_marks"],
        },
        "placing": {measure.__name__: with_interval(measure, *places) for measure in (precision, recall, f1)}
        | {name: sums[name] for name in ("places", "unseen", "tp", "fp", "fn")},
    }


def table(result: dict) -> str:
    """The result as text for a terminal."""
    measures = ("loss_per_token", "perplexity", "nats_per_character")
    lines = [f"{'condition':26}{'replies':15}{'n':>7} " + "".join(f"{name:>26}" for name in measures)]
    for condition, groups in result["loss"].items():
        for group, found in groups.items():
            cells = "".join(f"{cell(found[name]):>26}" for name in measures)
            lines.append(f"{condition:26}{group:15}{found['replies']:7,} {cells}")
    lines.append("")
    for part, found in result["marks"].items():
        n = found.get("marks", found.get("places"))
        for name, value in found.items():
            if isinstance(value, dict):
                lines.append(f"{part:36}{name:24}{cell(value)}   n={n:,}")
    return "\n".join(lines)


def evaluate(scorer: TeacherForced, rows: dict[int, Sharegpt]) -> dict:
    """All measures, and by row of the file (from 0) the sums they are made from."""
    losses, marks = measure(scorer, rows)
    per_row: dict[int, dict] = {number: {} for number in rows}
    for loss in losses:
        nats, tokens = per_row[loss.row].get(loss.condition, (0.0, 0))
        per_row[loss.row][loss.condition] = (round(nats + loss.nats, 4), tokens + loss.tokens)
    return {
        "rows": len(rows),
        "replies": sum(len(row.conversations) // 2 for row in rows.values()),
        "loss": summarise_losses(losses),
        "marks": summarise_marks([*marks.values()]),
        "nats_and_tokens_by_row": per_row,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.likelihood", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", required=True, help="folder or hub id of the model")
    add("--adapter", help="output folder of a LoRA run on that model")
    add("--template", default=TEMPLATE, help=f"of LLaMA-Factory, as in training (default: {TEMPLATE})")
    add("--data", type=Path, default=Path("data"), help="folder that `make data` wrote (default: data)")
    add("--split", default="valid", help="train, valid or test (default: valid)")
    add("--samples", type=positive, metavar="N", help="measure on N rows only")
    add("--seed", type=int, default=0, help="which N rows (default: 0)")
    add("--batch-tokens", type=positive, metavar="N", help="at once through the model; fewer take less memory")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    try:
        check_writable(arguments.json)
        path = arguments.data / f"{dataset_name('sharegpt', arguments.split)}.json"
        rows = read_conversations(path, arguments.samples, arguments.seed)
        scorer = TeacherForced(arguments.model, arguments.adapter, arguments.template, arguments.batch_tokens)
        result = evaluate(scorer, rows)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    asked = {name: value for name, value in vars(arguments).items() if name not in ("json", "data")}
    config = asked | {
        "device": scorer.device.type,
        "dtype": str(scorer.dtype),
        "resamples": RESAMPLES,
        "bootstrap_seed": SEED,
    }
    write_result(arguments.json, config, [path, *weight_files(arguments.model, arguments.adapter)], result)
    print(table(result))


if __name__ == "__main__":
    main()
