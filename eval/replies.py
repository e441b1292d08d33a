"""How good generated replies are: ``python -m eval.replies base.jsonl tuned.jsonl --json OUT``.

Reads what ``eval.generation`` wrote. For each file, over the messages that all have in common, and for the true replies
beside them: how close they come to the true ones, whether their marks are right, and what they claim of themselves;
with 95 % intervals from a bootstrap over replies, and the paired differences of each file to the first.
The judge of whether facts support a sentence is the grounding labeller, or with ``--judge nli:MODEL`` a model of
natural-language inference; either is wrong now and then (README).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from data_prep.errors import InputError
from data_prep.json_lines import json_lines
from data_prep.reader import Conversation, Turn
from eval.answer_file import config_path
from eval.citation_metrics import citation_statistics
from eval.consistency import consistency_statistics
from eval.intervals import RESAMPLES, SEED, Statistic, cell, intervals, paired_differences
from eval.judging import JUDGES, Judge, open_judge
from eval.results import check_writable, write_result
from eval.text_metrics import bleu_signature, text_statistics
from retrieval.text import marked_indices

TRUE = "true replies"


class Line(BaseModel):
    """A line of ``eval.generation``, as far as it counts here."""

    id: str
    card: list[str]
    other_card: list[str]
    history: list[str]
    message: str
    reference: str
    retrieved: list[dict]
    reply: str
    seconds: float
    finish_reason: str | None = None  # some APIs do not say

    def ended_by(self, reply: str) -> Conversation:
        """The conversation with ``reply`` as its last turn; its speaker is the second side."""
        said = [*self.history, self.message, reply]
        turns = [Turn(number % 2, text) for number, text in enumerate(said)]
        return Conversation("replies", 0, (self.other_card, self.card), turns)

    @property
    def shown(self) -> set[int]:
        """The facts in the last message, counted from 0."""
        return {number for hit in self.retrieved for number in marked_indices(hit["mark"])}


def read_lines(path: Path) -> dict[str, Line]:
    """By id. Raises InputError that names the file and the line, if it cannot be read."""
    found = {}
    for place, row in json_lines(path):
        try:
            line = Line.model_validate(row)
        except ValidationError:
            raise InputError(f"{place} is none of eval.generation's; name a file that it wrote.") from None
        found[line.id] = line
    return found


def reply_statistics(lines: Sequence[Line], replies: Sequence[str], judge: Judge) -> dict[str, dict[str, Statistic]]:
    """All measures of one reply to each line, by group and name."""
    conversations = [line.ended_by(reply) for line, reply in zip(lines, replies, strict=True)]
    supports = judge(conversations)
    return {
        "text": text_statistics(replies, [line.reference for line in lines], [line.card for line in lines]),
        "citations": citation_statistics(conversations, [line.shown for line in lines], supports),
        "consistency": consistency_statistics(conversations, supports),
    }


def measure(files: Mapping[str, Mapping[str, Line]], judge: Judge) -> dict:
    """Every file over the ids that all have, and the true replies, which have no marks.

    Raises InputError if there are fewer than two such ids.
    """
    first, *others = files.values()
    ids = [name for name in first if all(name in other for other in others)]
    if len(ids) < 2:
        raise InputError("The files have fewer than two messages in common; name replies to the same sample.")
    result: dict = {"n": len(ids), "replies": {}, "difference_to_the_first": {}}
    base = None
    for name, lines in files.items():
        common = [lines[i] for i in ids]
        found = _flat(reply_statistics(common, [line.reply for line in common], judge))
        result["replies"][name] = intervals(found)
        if base is None:
            base = found
        else:
            result["difference_to_the_first"][name] = paired_differences(found, base)
    common = [first[i] for i in ids]
    true = reply_statistics(common, [line.reference for line in common], judge)
    result["replies"][TRUE] = intervals(_flat(true))
    return result


def _flat(groups: Mapping[str, Mapping[str, Statistic]]) -> dict[str, Statistic]:
    return {name: found for measures in groups.values() for name, found in measures.items()}


def table(result: dict) -> str:
    """The result for people: a line for each measure, a column for each file."""
    names = list(result["replies"])
    lines = [f"{result['n']:,} replies".ljust(20) + "".join(f"{name[-25:]:>27}" for name in names)]
    measures = dict.fromkeys(measured for found in result["replies"].values() for measured in found)
    for measured in measures:
        found = (result["replies"][name].get(measured) for name in names)
        cells = (cell(one) if one else "-" for one in found)
        lines.append(f"{measured:20}" + "".join(f"{text:>27}" for text in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.replies", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="what eval.generation wrote; the first is compared with")
    add("--judge", default="encoder", help=f"of what facts support: {JUDGES} (default: encoder)")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    try:
        check_writable(arguments.json)
        files = {path.name: read_lines(path) for path in arguments.files}
        if len(files) < len(arguments.files):
            raise InputError("Two of the files have the same name; give them different ones.")
        result = measure(files, open_judge(arguments.judge))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    made = {path.name: json.loads(config_path(path).read_text(encoding="utf-8"))
            for path in arguments.files if config_path(path).is_file()}  # fmt: skip
    config = {"judge": arguments.judge, "resamples": RESAMPLES, "seed": SEED, "bleu": bleu_signature()}
    write_result(arguments.json, config | {"replies_by": made}, arguments.files, result)
    print(table(result))


if __name__ == "__main__":
    main()
