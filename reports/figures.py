"""The report's figures as SVG. Their words are those of the JSON, so that they serve a report in any language."""

from io import BytesIO

import matplotlib as mpl
from matplotlib.figure import Figure

from reports.comparison import Comparison
from reports.load import find
from reports.verdicts import is_measured

BLUE, RED, GREY = "#1f77b4", "#d62728", "#999999"
ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}


def figures(results: dict[str, dict | None]) -> dict[str, bytes]:
    """The figures that ``results`` have numbers for, by file name."""
    comparison = Comparison(results["comparison"])
    drawn = {"loss.svg": loss_curve(find(comparison.content, "training")), "headline.svg": headline(comparison)}
    return {name: picture for name, picture in drawn.items() if picture}


def loss_curve(training: dict | None) -> bytes | None:
    """Loss in nats per token over training steps, the findings as dotted lines; None without a curve."""
    curve = find(training, "curve")
    if not find(curve, "steps") or not find(curve, "loss"):
        return None
    with _fixed():
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.add_subplot(title=find(training, "name") or "", xlabel="step", ylabel="loss (nats / token)")
        few = len(curve["steps"]) < 30
        axes.plot(curve["steps"], _gaps(curve["loss"]), color=BLUE, marker="." if few else "", label="train")
        if find(curve, "eval_steps"):
            axes.plot(curve["eval_steps"], _gaps(curve["eval_loss"]), color=RED, marker="o", markersize=4, label="eval")
        for finding in find(curve, "findings") or []:
            axes.axvline(finding["step"], color=RED, linestyle=":", linewidth=1)
            axes.annotate(finding["name"], (finding["step"], 1), (2, -2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", rotation=90, va="top", fontsize=8, color=RED)  # fmt: skip
        axes.legend(frameon=False)
        return _svg(figure)


def headline(comparison: Comparison) -> bytes | None:
    """A panel for each headline measure, in it every system with its interval; None if nothing is measured."""
    names = [f"{find(system, 'model')} + {find(system, 'retriever')}" for system in comparison.systems]
    panels = [[comparison.measure(system, of) for system in comparison.systems] for of in comparison.headline]
    if not any(is_measured(measure) for panel in panels for measure in panel):
        return None
    columns = 2
    rows = -(-len(panels) // columns)
    with _fixed():
        figure = Figure(figsize=(8, rows * (0.7 + 0.16 * len(names))), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, of, panel in zip(grid.flat, comparison.headline, panels, strict=False):
            _panel(axes, comparison, of, panel)
            axes.set_yticks(range(len(names)), names, fontsize=7)
            axes.set_ylim(len(names) - 0.5, -0.5)  # the base on top
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        return _svg(figure)


def _panel(axes, comparison: Comparison, of: dict, panel: list[dict | None]) -> None:
    axes.set_title(f"{find(of, 'measure')} {ARROWS.get(find(of, 'better'), '')}", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=GREY, alpha=0.3)
    for place, (system, measure) in enumerate(zip(comparison.systems, panel, strict=True)):
        if is_measured(measure):
            # A percentile interval need not hold its value.
            errors = [[max(measure["value"] - measure["low"], 0)], [max(measure["high"] - measure["value"], 0)]]
            colour = BLUE if find(system, "model") == comparison.last else GREY
            axes.errorbar(measure["value"], place, xerr=errors, color=colour, marker="o", markersize=4, capsize=3)


def _gaps(values: list[float | None]) -> list[float]:
    """NaN, at which a line is interrupted, for a loss that was no number."""
    return [float("nan") if value is None else value for value in values]


def _fixed():
    """Matplotlib as it comes, whatever the settings of the machine; names in the SVG are the same every time."""
    kept = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    return mpl.rc_context({**kept, "svg.hashsalt": "persona-factory", "font.family": ["DejaVu Sans"]})


def _svg(figure: Figure) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return picture.getvalue()
