"""What the template asks of the results, in the words of its language."""

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from reports.comparison import Comparison
from reports.formats import Formats, md
from reports.load import ReportError, find
from reports.words import Words


class View:
    """What the template calls to put ``results`` into ``words``; a number that they lack is the words' not_measured."""

    def __init__(self, results: dict[str, dict | None], words: Words):
        self.results, self.words = results, words
        self.comparison = Comparison(results["comparison"])
        self.formats = Formats(words("not_measured"))

    def label(self, group: str, name: str) -> str:
        """The measure in words, or its name in the JSON."""
        key = f"measures.{group}.{name}.label"
        return self.words(key) if key in self.words else self.formats.code(name)

    def system(self, model: str | None, retriever: str | None) -> str:
        return self.words("system", model=self.formats.md(model), retriever=self.formats.md(retriever))

    def summing_up(self, retriever: str, rows: list[dict]) -> str:
        """How many of the headline measures are better beyond doubt, and which are not."""
        others = [row for row in rows if row["verdict"] != "better_apart"]
        names = {
            "system": self.system(self.comparison.last, retriever),
            "base": self.system(*self.comparison.base),
            "apart": str(len(rows) - len(others)),
            "total": str(len(rows)),
        }
        said = self.words("summary.count", **names)
        if not others:
            return said
        listed = [
            self.words(
                "summary.one_of_others",
                measure=self.label(find(row["of"], "group"), find(row["of"], "measure")),
                verdict=self.words(f"verdicts.{row['verdict']}.short"),
            )
            for row in others
        ]
        rest = self.words("summary.others", list=self.words("summary.separator").join(listed))
        return f"{said}{self.words('between')}{rest}"

    def hardware(self, machine: dict | None) -> str:
        """Cores, memory and GPUs of a machine."""
        if not machine:
            return self.formats.missing
        number = self.formats.number
        gpus = [
            self.words("training.gpu_line", name=md(find(gpu, "name")), memory=number(find(gpu, "memory_mib")))
            for gpu in find(machine, "gpus") or []
        ]
        return self.words(
            "training.hardware_line",
            cores=number(find(machine, "cores")),
            memory=number(find(machine, "memory_mib")),
            gpus=self.words("words.list").join(gpus) or self.words("none"),
        )

    def parameters(self, config: dict) -> list[str]:
        """Those that the report explains in its own order, then the others."""
        known = [name for name in self.words.under("parameters.meanings") if name in config]
        return known + [name for name in config if name not in known]

    def parameter_meaning(self, name: str) -> str:
        key = f"parameters.meanings.{name}"
        return self.words(key) if key in self.words else ""

    def finding_name(self, name: str | None) -> str:
        """Of the loss curve, in words."""
        key = f"training.findings_by_name.{name}"
        return self.words(key) if key in self.words else self.formats.md(name)

    def remarks(self) -> dict[str, str]:
        """A person's paragraphs by section, if they are about this comparison."""
        remarks = self.results["remarks"]
        if find(remarks, "about") != self.comparison.about:
            return {}
        language = self.words("language")
        return {section: find(texts, language) for section, texts in (find(remarks, "remarks") or {}).items()}

    def screenshots(self, results: Path, out: Path) -> list[dict]:
        """``file``, ``caption`` and ``path`` from ``out``, None if the file is not there.

        Raises ReportError if a file is not the one that screenshots.json speaks of.
        """
        shots = []
        for shot in find(self.results["screenshots"], "screenshots") or []:
            file = find(shot, "file")
            path = results / str(file)
            there = path.is_file()
            if there and hashlib.sha256(path.read_bytes()).hexdigest() != find(shot, "sha256"):
                raise ReportError(f"{path} is not the file that screenshots.json speaks of; take the screenshots anew.")
            shots.append(
                {
                    "file": file,
                    "caption": find(shot, "caption", self.words("language")),
                    "path": quote(os.path.relpath(path, out)) if there else None,
                }
            )
        return shots


def query_recall(retriever: dict, turns: int | None, whose: str | None) -> float | None:
    """recall@2 of a query, the mean of used and relevant facts, as retrieval_settings.json has it."""
    for query in find(retriever, "queries") or []:
        if (find(query, "query_turns"), find(query, "whose")) == (turns, whose):
            both = [find(query, "used"), find(query, "relevant")]
            return None if None in both else sum(both) / 2
    return None


def lowest(losses: list[float | None] | None) -> float | None:
    """Of those that are numbers."""
    return min((loss for loss in losses or [] if loss is not None), default=None)


def seconds(legs: list[dict] | None) -> float | None:
    """Of all starts of a run together; None if one did not end in an orderly way."""
    times = [find(leg, "seconds") for leg in legs or []]
    return None if not times or None in times else sum(times)


def judge_command(judge: dict | None) -> str:
    files = " ".join(str(find(file, "file")) for file in (find(judge, "files") or {}).values())
    modes = ",".join(mode for mode in ("pairwise", "scored") if find(judge, mode))
    replies = f" --replies {files} --mode {modes}" if files else ""
    check = " --check" if find(judge, "check") else ""
    return f"python -m eval.judge{replies}{check} --json reports/results/judge.json"


def general_models(general: dict | None) -> list[str]:
    """The models of general.json in order."""
    tasks = (find(general, "results") or {}).values()
    return list(dict.fromkeys(name for task in tasks for name in find(task, "models") or {}))
