"""comparison.json as the report's tables need it: systems by name, verdicts, and what retrieval and tuning bring."""

from reports.load import find
from reports.verdicts import verdict

NO_RETRIEVER = "none"


class Comparison:
    """``content``: of comparison.json, None if there is none; what it lacks is None or empty here."""

    def __init__(self, content: dict | None):
        self.content = content
        self.systems = find(content, "systems") or []
        self.headline = find(content, "headline") or []
        self.models = [find(model, "name") for model in find(content, "config", "models") or []]
        self.base = (find(content, "base", "model"), find(content, "base", "retriever"))
        self.last = self.models[-1] if self.models else None
        retrievers = find(content, "config", "retrievers") or {}
        self.retrievers = [name for name in retrievers if name != NO_RETRIEVER and (self.last, name) != self.base]

    @property
    def alone(self) -> bool:
        """Whether it is about one model, so that nothing can be said of tuning."""
        return len(self.models) == 1

    @property
    def about(self) -> dict:
        """What a person's words on the comparison must be about: what was asked, in which order, and who judged."""
        config = find(self.content, "config") or {}
        return {
            "weights": [[find(one, "name"), find(one, "weights_sha256")] for one in find(config, "models") or []],
            "retrievers": [[*pair] for pair in (find(config, "retrievers") or {}).items()],
            "sample_sha256": find(self.content, "sample_sha256"),
            "max_tokens": find(config, "max_tokens"),
            "judge": find(config, "judge"),
        }

    def system(self, model: str | None, retriever: str | None) -> dict | None:
        """The system of that model and retriever."""
        wanted = (model, retriever)
        return next((one for one in self.systems if (find(one, "model"), find(one, "retriever")) == wanted), None)

    def measure(self, system: dict | None, of: dict) -> dict | None:
        """The measure of ``system`` that a headline entry names."""
        return find(system, "measures", find(of, "group"), find(of, "measure"))

    def difference(self, system: dict | None, of: dict, to: str = "base") -> dict | None:
        """The paired difference in what a headline entry names.

        ``to``: ``base``; ``model``, the first one with the same retriever; ``retriever``, the first one with the same
        model.
        """
        name = "difference_to_base" if to == "base" else f"difference_by_{to}"
        return find(system, name, find(of, "group"), find(of, "measure"))

    def verdicts(self, retriever: str) -> list[dict]:
        """Of the last model with ``retriever`` against the base, an entry for each headline measure.

        ``of``: the headline's entry; ``measure``, ``base``, ``difference``: measures; ``verdict``: of VERDICTS.
        """
        system, base = self.system(self.last, retriever), self.system(*self.base)
        rows = []
        for of in self.headline:
            three = (self.measure(system, of), self.measure(base, of), self.difference(system, of))
            row = dict(zip(("measure", "base", "difference"), three, strict=True))
            rows.append({"of": of, **row, "verdict": verdict(*three, find(of, "better"))})
        return rows

    def contributions(self, retriever: str) -> list[dict]:
        """What ``retriever`` and tuning bring in each headline measure, each with and without the other.

        An entry for each: ``of``, the headline's entry, and four paired differences, measures.
        """
        alone = self.system(self.last, self.base[1])
        with_facts = self.system(self.base[0], retriever)
        both = self.system(self.last, retriever)
        return [
            {
                "of": of,
                "retrieval_base": self.difference(with_facts, of, "retriever"),
                "retrieval_tuned": self.difference(both, of, "retriever"),
                "tuning_alone": self.difference(alone, of, "model"),
                "tuning_retrieval": self.difference(both, of, "model"),
            }
            for of in self.headline
        ]
