"""A language model as the judge of replies: ``python -m eval.judge --replies A.jsonl [B.jsonl] --json OUT``.

Two files are compared reply by reply (``pairwise``); the replies of one get scores (``scored``); ``--mode`` chooses
otherwise. ``--check`` tells instead how often the judge is right where nobody would disagree. The endpoint is named by
OPENAI_BASE_URL and OPENAI_API_KEY. Every answer is kept in OUT.log.jsonl: the same command goes on where it stopped.
"""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from data_prep.errors import InputError
from data_prep.provenance import sha256
from eval.intervals import RESAMPLES, SEED, cell
from eval.judge.asking import Judge
from eval.judge.check import CHECK, agreement, read_check
from eval.judge.pairwise import grouped, pairwise_measures, pairwise_questions
from eval.judge.replies import Replies, in_common, read_replies
from eval.judge.scored import scored_measures, scored_questions
from eval.results import check_writable, write_result

MODES = ("pairwise", "scored")


def read_sides(paths: list[Path]) -> tuple[dict[str, Replies], dict]:
    """The replies of ``A``, and of ``B`` if there are two files, on their common ids; and what is told of them.

    Raises InputError.
    """
    names = ("A", "B")[: len(paths)]
    files = {name: {"file": path.name} for name, path in zip(names, paths, strict=True)}
    sides = {name: read_replies(path) for name, path in zip(names, paths, strict=True)}
    for name, path in zip(names, paths, strict=True):
        files[name]["sha256"] = sha256(path)  # by side: the two may have the same name
    if len(paths) == 2:
        whole = sides
        sides = dict(zip(names, in_common(*whole.values()), strict=True))
        for name in names:
            files[name]["only_here"] = [id_ for id_ in whole[name].texts if id_ not in sides[name].texts]
    n = len(sides["A"].texts)
    if n < 2:
        raise InputError(f"{' and '.join(p.name for p in paths)}: {n} id to judge; an interval needs at least two.")
    return sides, {"n": n, "files": files}


def compare(judge: Judge, sides: dict[str, Replies], samples: int) -> dict:
    """A against B."""
    a, b = sides.values()
    questions = pairwise_questions(a.situations, a.texts, b.texts, samples)
    verdicts, counts = judge.ask(questions)
    return {"counts": asdict(counts)} | pairwise_measures(grouped(questions, verdicts))


def score(judge: Judge, sides: dict[str, Replies], samples: int) -> dict:
    """Each side by itself; the counts are of all together."""
    parts = {name: scored_questions(side.situations, side.texts, samples) for name, side in sides.items()}
    scores, counts = judge.ask([question for part in parts.values() for question in part])
    left = iter(scores)
    measured = {name: scored_measures(part, [next(left) for _ in part]) for name, part in parts.items()}
    return {"counts": asdict(counts), "replies": measured}


def check(judge: Judge, samples: int) -> dict:
    """The set with known answers."""
    items = read_check()
    situations = {name: item.situation for name, item in items.items()}
    a, b = ({name: getattr(item, side) for name, item in items.items()} for side in ("a", "b"))
    questions = pairwise_questions(situations, a, b, samples)
    verdicts, counts = judge.ask(questions)
    return {"counts": asdict(counts), "groups": agreement(items, grouped(questions, verdicts))}


def measure(arguments: argparse.Namespace) -> tuple[list[Path], dict]:
    """The files that were read, and what was found. Raises InputError."""
    modes = modes_of(arguments)
    check_writable(arguments.json)
    sides, found = read_sides(arguments.replies) if arguments.replies else ([], {})
    tell_left_out(found.get("files", {}))
    judge = Judge(
        arguments.judge_model,
        arguments.temperature,
        arguments.retries,
        arguments.concurrency,
        arguments.json.with_name(f"{arguments.json.name}.log.jsonl"),
    )
    run = {"pairwise": compare, "scored": score}
    found |= {mode: run[mode](judge, sides, arguments.samples) for mode in modes}
    if not arguments.check:
        return arguments.replies, found
    checked = check(judge, arguments.samples)
    return [*arguments.replies, CHECK], {"n": checked["groups"]["all"]["ids"]} | found | {"check": checked}


def modes_of(arguments: argparse.Namespace) -> list[str]:
    """What is to be measured of the files. Raises InputError if the options contradict each other."""
    if not arguments.judge_model:
        raise InputError("The judge needs JUDGE_MODEL= or --judge-model, the name of a model that the endpoint serves.")
    if not arguments.replies:
        if not arguments.check:
            raise InputError("Name the replies to judge with --replies, or choose --check, or both.")
        return []
    if len(arguments.replies) > 2:
        raise InputError(f"--replies takes one file or two, not {len(arguments.replies)}.")
    modes = arguments.mode or ["pairwise" if len(arguments.replies) == 2 else "scored"]
    if "pairwise" in modes and len(arguments.replies) < 2:
        raise InputError("pairwise compares two files; name a second one behind --replies.")
    return modes


def tell_left_out(files: dict[str, dict]) -> None:
    """Say on stderr which ids only one file has."""
    for told in files.values():
        if alone := told.get("only_here"):
            print(f"{told['file']} alone has {len(alone)} ids, left out: {', '.join(alone[:5])}", file=sys.stderr)


def table(result: dict) -> str:
    """The result as text for a terminal."""
    lines = []
    for mode in ("pairwise", "scored", "check"):
        if mode not in result:
            continue
        found = result[mode]
        lines.append(f"{mode:10} " + ", ".join(f"{number} {name}" for name, number in found["counts"].items()))
        if mode == "check":
            groups = {"check": {group: told["accuracy"] for group, told in found["groups"].items()}}
        else:
            parts = {"A over B": found} if mode == "pairwise" else found["replies"]
            groups = {name: part["measures"] for name, part in parts.items()}
        for group, measures in groups.items():
            for name, value in measures.items():
                lines.append(f"{group:10} {name:16} {cell(value) if value else 'too few answers that can be read'}")
    return "\n".join(lines)


def mode_list(text: str) -> list[str]:
    """``pairwise,scored`` as a list, for argparse."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in MODES]:
        raise argparse.ArgumentTypeError(f"no mode is called {unknown[0]!r}; choose from {', '.join(MODES)}")
    return chosen


def number(kind: type, low: float, high: float):
    """A parser for argparse of numbers from ``low`` to ``high``."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind.__name__} from {low} to {high}")
        return value

    return parse


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m eval.judge", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--replies", type=Path, nargs="+", default=[], metavar="FILE", help="one file of replies, or two: A, then B")
    add("--check", action="store_true", help="judge the set with known answers, too or instead")
    add(
        "--mode",
        type=mode_list,
        metavar="a,b",
        help="pairwise, scored (default: pairwise for two files, scored for one)",
    )
    add("--judge-model", default=os.environ.get("JUDGE_MODEL"), metavar="NAME", help="(default: JUDGE_MODEL)")
    add("--samples", type=number(int, 1, 100), default=2, metavar="N", help="answers to each prompt (default: 2)")
    # At 0 the samples of one prompt would all be one answer.
    add("--temperature", type=number(float, 0.01, 2), default=0.7, metavar="T", help="of the judge (default: 0.7)")
    add("--retries", type=number(int, 0, 100), default=2, metavar="N", help="of unreadable answers (default: 2)")
    add("--concurrency", type=number(int, 1, 1000), default=4, metavar="N", help="requests at a time (default: 4)")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    return parser


def main() -> None:
    arguments = options().parse_args()
    try:
        paths, found = measure(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    asked = {name: getattr(arguments, name) for name in ("judge_model", "samples", "temperature", "retries")}
    write_result(arguments.json, asked | {"resamples": RESAMPLES, "seed": SEED}, paths, found)
    print(table(found))


if __name__ == "__main__":
    main()
