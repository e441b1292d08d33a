"""Check every YAML before anything runs: ``python -m llamafactory_configs.check`` (``make check-configs``).

Each goes through LLaMA-Factory's own argument parser; training, serving and export must agree; datasets must exist and
their longest sample must fit. What the cards at hand, or those described, cannot do is listed with what to change; it
is no breach, since recipes are made for different machines; `make train` says it again.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.check import Contents, read_json, read_rows
from data_prep.errors import InputError
from data_prep.rows import ROWS
from data_prep.trainer_view import TrainerView
from llamafactory_configs.config import ConfigurationError, effective_batch, gpus, setting, wants_gpu
from llamafactory_configs.costs import GIB, hours, needed
from llamafactory_configs.hardware import Cards, cards_at_hand, fits
from llamafactory_configs.rules import RULES, Configs, datasets_of

MEMORY = 24  # GiB of a GPU, if nothing is said
MOST_FACTS = 9  # that `make data` shows in a turn


@dataclass
class Data:
    """The datasets that recipes read. ``folder`` stands for LLaMA-Factory's default; ``tokenizer`` for hub models'."""

    folder: Path
    tokenizer: str | None = None
    unknown: set[str] = field(default_factory=set)  # models whose tokenizer is not to be had
    _contents: dict[tuple, Contents] = field(default_factory=dict)

    def of(self, config: dict) -> Path:
        """The folder that a configuration reads."""
        return Path(config.get("dataset_dir", self.folder))

    def missing(self, name: str, config: dict) -> Iterator[str]:
        """Datasets that are not there. Raises InputError if the list of them is broken."""
        info = self.of(config) / "dataset_info.json"
        known = read_json(info) if info.is_file() else {}
        for dataset in datasets_of(config):
            if dataset not in known:
                choices = ", ".join(sorted(known)) or "none; build them with `make data`"
                yield f"train/{name}: {info} does not list {dataset}; it lists {choices}"
            elif not (file := self.of(config) / known[dataset].get("file_name", "")).is_file():
                yield f"train/{name}: {file} of the dataset {dataset} is missing; build it with `make data`"

    def contents(self, config: dict) -> list[Contents]:
        """What those datasets of ours hold that a configuration trains on; empty if its tokenizer cannot be had.

        Raises InputError if one is broken.
        """
        model = config["model_name_or_path"]
        source = model if Path(model).is_dir() else self.tokenizer
        found = []
        for dataset in datasets_of(config, "dataset"):
            form = dataset.split("_")[1] if dataset.startswith("spc_") else None
            if form not in ROWS:
                continue
            read = config | {"cutoff_len": setting(config, "cutoff_len")}
            key = (source or model, read["template"], read["cutoff_len"], self.of(config), dataset)
            if key not in self._contents and model not in self.unknown:
                try:
                    view = TrainerView(read, source)
                except InputError:
                    self.unknown.add(model)
                else:
                    path = self.of(config) / f"{dataset}.json"
                    self._contents[key] = read_rows(path, form, MOST_FACTS, view)
            found += [self._contents[key]] if key in self._contents else []
        return found

    def too_long(self, name: str, config: dict) -> Iterator[str]:
        """Samples that ``cutoff_len`` would cut, and with them the mark at a reply's end."""
        cutoff = setting(config, "cutoff_len")
        longest = max((contents.longest for contents in self.contents(config)), default=0)
        if longest > cutoff:
            yield f"train/{name}: cutoff_len is {cutoff}, the longest sample {longest} tokens; raise it"


def check(configs: Configs, data: Data) -> list[str]:
    """What is wrong, a sentence each; data are read once the files themselves are as they must be.

    Raises ConfigurationError for a broken YAML file, InputError for broken data.
    """
    found = [breach for rule in RULES for breach in rule(configs)]
    if found:
        return found
    for name, config in configs.by_task["train"].items():
        if _made_by_tiny(config) and not data.of(config).is_dir():
            continue  # `make tiny` builds it first
        missing = list(data.missing(name, config))
        found += missing or data.too_long(name, config)
    return found


def _made_by_tiny(config: dict) -> bool:
    return str(config.get("dataset_dir", "")).startswith("saves/tiny/")


def table(configs: Configs, data: Data, cards: Cards | None) -> Iterator[str]:
    """A line a recipe that needs a GPU: samples a step, GPUs, and, computed, GiB on each and hours of an A100."""
    yield f"{'recipe':34} {'a step':>6} {'GPUs':>4} {'GiB each':>8} {'A100 hours':>10}"
    for name, config in configs.by_task["train"].items():
        if not wants_gpu(config):
            continue
        number = max(gpus(config), cards.count) if cards else gpus(config)
        tokens = sum(contents.tokens for contents in data.contents(config))
        time = f"{hours(config, tokens):10.1f}" if tokens else f"{'?':>10}"
        yield f"{name:34} {effective_batch(config, number):6} {number:4} {needed(config, number) / GIB:8.0f} {time}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llamafactory_configs.check", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--configs", type=Path, help="folder with train/, serve/ and export/ (default: ours)")
    add("--data", type=Path, default=Path("data"), help="folder of the datasets (default: data)")
    add("--tokenizer", metavar="FOLDER", help="a tokenizer for the models of the hub, where there is no network")
    add("--gpus", type=int, metavar="N", help="check for N GPUs instead of those at hand")
    add("--gpu-memory", type=float, metavar="GIB", help=f"of each of these (default: {MEMORY})")
    add("--no-bf16", action="store_true", help="these cannot compute in bf16")
    arguments = parser.parse_args()
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")  # it would log every configuration,
    logging.getLogger("llamafactory").setLevel(logging.ERROR)  # and has read that variable already
    configs = Configs(arguments.configs) if arguments.configs else Configs()
    data = Data(arguments.data, arguments.tokenizer)
    if not arguments.gpus and (arguments.gpu_memory or arguments.no_bf16):
        parser.error("--gpu-memory and --no-bf16 describe the GPUs of --gpus N; give that too")
    described = arguments.gpus and Cards(arguments.gpus, arguments.gpu_memory or MEMORY, not arguments.no_bf16)
    cards = described or cards_at_hand()
    try:
        if found := check(configs, data):
            print(f"{len(found):,} breaches:", *found, sep="\n", file=sys.stderr)
            sys.exit(1)
        print(*table(configs, data, cards), sep="\n")
        trainings = configs.by_task["train"].items() if cards else ()
        unfit = [f"{name}: {sentence}" for name, config in trainings for sentence in fits(config, cards)]
    except (ConfigurationError, InputError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if data.unknown:
        print(f"Lengths not checked, no tokenizer at hand: {', '.join(sorted(data.unknown))} (--tokenizer FOLDER).")
    if unfit:
        print("\nNot for these cards:", *unfit, sep="\n")
    if not cards:
        print("No GPU here: whether recipes fit one is not checked (--gpus 1 --gpu-memory 24 checks for such a one).")
    print(f"All {sum(map(len, configs.by_task.values()))} configurations are as they must be.")


if __name__ == "__main__":
    main()
