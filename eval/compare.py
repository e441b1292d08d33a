"""Compare models with and without retrieval on SPC's test split:
``python -m eval.compare qwen3-1.7b/base qwen3-1.7b/lora --spc hub --samples 300`` (``make eval``).

Each model, named by the configuration that serves it, meets each retriever: the likelihood of the true replies comes
from the model itself (``eval.choice``), its own replies from LLaMA-Factory's API (``eval.generation``), which this
starts and ends. The first model with the first retriever is the base that all others are compared with.

What the models said lies in --work, JSON Lines, by model and weights, sample and retriever, and beside it what each
reply brings to each measure. Started again, the command goes on where it was interrupted, and what is there already is
not asked again: a retriever or a model more costs only itself. Besides, the base and the last model reply to 40
messages of the bundled sample, from which the report takes its examples.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError
from data_prep.json_lines import json_lines
from data_prep.provenance import sha256
from eval.answering import Work, take_likelihoods, take_replies, work_of
from eval.arguments import positive
from eval.choice import OTHERS
from eval.comparison import System, compare, retrieval_measures
from eval.examples import MESSAGES, choose_examples
from eval.generation import MAX_TOKENS
from eval.intervals import RESAMPLES, SEED, cell
from eval.judging import Judge, open_judge
from eval.loss_curve import judge as judge_curve
from eval.models import Model, open_model
from eval.questions import Asked, Split, add_sample_options, open_split
from eval.replies import Line, read_lines
from eval.results import check_writable, write_lines, write_result
from eval.retrieval import ORACLE, names
from eval.text_metrics import bleu_signature
from inference.serving import NotServed, end_as_by_ctrl_c
from llamafactory_configs.config import ConfigurationError
from llamafactory_configs.retriever_record import retriever_of
from llamafactory_configs.run_record import hardware

RETRIEVERS = "none,tfidf,small,oracle"
SAMPLES = 300
RESULT = Path("reports/results/comparison.json")


@dataclass(frozen=True)
class Plan:
    """Who is asked what. ``asked``: the sample, by retriever. ``base``: the first retriever. ``shown``: the one that
    examples have; ``exemplary``: their messages under both."""

    works: list[Work]
    split: Split
    asked: dict[str, Asked]
    base: str
    shown: str
    exemplary: dict[str, Asked]


def plan(arguments: argparse.Namespace) -> Plan:
    """What the command asks for. Raises InputError and ValueError."""
    models = [open_model(name) for name in arguments.models]
    split = open_split(arguments.spc, arguments.split)
    asked = {name: split.asked(arguments.samples, arguments.seed, name) for name in arguments.retrievers}
    base, shown = arguments.retrievers[0], trained_with(models[-1], asked)
    if len(asked[base].ids) < 2:
        raise InputError("An interval needs at least two replies; take more with --samples.")
    if len({*arguments.models}) < len(models):
        raise InputError("One of the models is named twice; name each once, the untouched one first.")
    works = [work_of(arguments.work, model) for model in models]
    sample = open_split("sample", "test")
    exemplary = {name: sample.asked(MESSAGES, 0, name) for name in (base, shown)}
    return Plan(works, split, asked, base, shown, exemplary)


def training_of(model: Model) -> dict | None:
    """The record of the run that trained ``model``, and its loss curve; None if there is none of either."""
    record = model.folder / "run.json"
    if not record.is_file():
        return None
    try:
        judge_curve(model.folder)
        curve = json.loads((model.folder / "loss_curve.json").read_text(encoding="utf-8"))
    except InputError as error:
        print(error, file=sys.stderr)
        curve = None
    return {"name": model.name, "record": json.loads(record.read_text(encoding="utf-8")), "curve": curve}


def trained_with(model: Model, asked: Mapping[str, Asked]) -> str:
    """The retriever, of those asked, that made the data of ``model``; where it is none of them, the first that can be
    had when serving. Raises InputError if the model's record of it cannot be read."""
    try:
        identity = retriever_of(model.folder)
    except ConfigurationError as error:
        raise InputError(str(error)) from None
    fitting = [name for name, one in asked.items() if one.config["retriever_identity"] == identity]
    served = [name for name in asked if name not in ("none", ORACLE)]
    return [*fitting, *served, *asked][0]


def run(arguments: argparse.Namespace) -> dict:
    """Do what is left to do, and give the result, which is written too. Raises InputError, ValueError and NotServed."""
    check_writable(arguments.json)
    judge = open_judge(arguments.judge)
    whole = plan(arguments)
    for number, work in enumerate(whole.works, start=1):
        print(f"\n== {number}/{len(whole.works)}  {work.model.name}", flush=True)
        take_likelihoods(work, whole.split, whole.asked)
        # Examples show the last model, and the base beside it.
        examples = [whole.exemplary[whole.base]] if work is whole.works[0] else []
        examples += [whole.exemplary[whole.shown]] if work is whole.works[-1] else []
        take_replies(work, [*whole.asked.values(), *examples], arguments.max_tokens)
    print("\n== measures", flush=True)
    result, read = measure(whole, judge, arguments.judge, arguments.max_tokens)
    answers = {str(path.relative_to(arguments.work)): sha256(path) for path in read}
    write_result(arguments.json, config_of(arguments, whole), [whole.split.path], result | {"answers_sha256": answers})
    return result


def measure(whole: Plan, judge: Judge, judge_name: str, max_tokens: int) -> tuple[dict, list[Path]]:
    """The result, from what the models said, and the files that say it; beside them, the measures of each reply."""
    read: list[Path] = []

    def lines(work: Work, asked: Asked) -> list[Line]:
        read.append(work.replies(asked, max_tokens))
        return [*read_lines(read[-1]).values()]

    statistics = {}
    for work in whole.works:
        for retriever, one in whole.asked.items():
            read.append(work.choices(one))
            choices = [line for _, line in json_lines(read[-1])]
            system = System(work.model.name, retriever, choices, lines(work, one))
            statistics[system] = system.statistics(judge)
            write_lines(work.measures(one, max_tokens, judge_name), system.per_reply(statistics[system]))
    base, last = whole.works[0], whole.works[-1]
    beside = lines(base, whole.exemplary[whole.base])
    chosen = choose_examples(lines(last, whole.exemplary[whole.shown]), beside, judge)
    told = {"model": last.model.name, "retriever": whole.shown}
    result = {
        "sample_sha256": whole.asked[whole.base].config["sample_sha256"],
        **compare(statistics, judge),
        "retrieval": {name: retrieval_measures(one) for name, one in whole.asked.items()},
        "training": training_of(last.model),
        "examples": [told | example for example in chosen],
    }
    return result, read


def config_of(arguments: argparse.Namespace, whole: Plan) -> dict:
    """How the result was made."""
    return {
        "models": [work.model.record for work in whole.works],
        "retrievers": {name: one.config["retriever_identity"] for name, one in whole.asked.items()},
        "spc": data_of(arguments),
        **{name: getattr(arguments, name) for name in ("split", "seed", "max_tokens", "judge")},
        "samples": len(whole.asked[whole.base].ids),
        "bleu": bleu_signature(),
        "resamples": RESAMPLES,
        "bootstrap_seed": SEED,
        "candidates": OTHERS + 1,
        "command": command_line(arguments),
        "hardware": hardware(),
    }


def data_of(arguments: argparse.Namespace) -> str:
    """``hub``, ``sample``, or a folder wherever it lies."""
    return arguments.spc if arguments.spc in ("hub", "sample") else "path/to/spc"


def command_line(arguments: argparse.Namespace) -> str:
    """How to run it again."""
    options = {"spc": data_of(arguments), "split": arguments.split, "samples": arguments.samples,
               "seed": arguments.seed, "retrievers": ",".join(arguments.retrievers), "max-tokens": arguments.max_tokens,
               "judge": arguments.judge}  # fmt: skip
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "eval.compare", *arguments.models, *given])


def table(result: dict) -> str:
    """The headline measures for people: a line for each system."""
    measures = [(each["group"], each["measure"]) for each in result["headline"]]
    lines = [f"{result['n']:,} replies".ljust(28) + "".join(f"{name:>25}" for _, name in measures)]
    for system in result["systems"]:
        cells = (system["measures"][group].get(name) for group, name in measures)
        text = "".join(f"{cell(found) if found else '-':>25}" for found in cells)
        lines.append(f"{system['model']} {system['retriever']}".ljust(28) + text)
    return "\n".join(lines)


def main() -> None:
    end_as_by_ctrl_c()
    parser = argparse.ArgumentParser(prog="python -m eval.compare", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("models", nargs="+", metavar="CONFIG", help="of llamafactory_configs/serve; the first is the base")
    add_sample_options(parser, SAMPLES)
    add("--retrievers", type=names, default=names(RETRIEVERS), metavar="a,b,...",
        help=f"of retrieval/retrievers.yaml, or oracle; the base has the first (default: {RETRIEVERS})")  # fmt: skip
    add("--max-tokens", type=positive, default=MAX_TOKENS, help=f"length of a reply at most (default: {MAX_TOKENS})")
    add("--judge", default="encoder", metavar="NAME", help="who says what a fact supports (default: encoder)")
    add("--work", type=Path, default=Path("saves/eval"), help="where the answers lie (default: saves/eval)")
    add("--json", type=Path, default=RESULT, metavar="OUT", help=f"where to write the result (default: {RESULT})")
    arguments = parser.parse_args()
    try:
        print(table(run(arguments)))
        told = "; `make report` tells what each means" if arguments.json == RESULT else ""
        print(f"\n{arguments.json} holds all measures{told}.")
    except (InputError, ValueError, NotServed) as error:
        sys.exit(_told(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(_told("Stopped; the same command goes on from here.", 130))


def _told(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
