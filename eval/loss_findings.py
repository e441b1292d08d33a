"""What a loss curve says about its run: each finding is a name, a step, and a sentence with the numbers and a remedy.

Losses are compared as logarithms: the noise of a logged loss is a share of its level, at the start as at the end.
The thresholds were set on noisy falling curves of known shape (tests/eval/test_loss_curve.py draws them) and hold
back where noise could look the same: a curve that is not named is not proven sound, one that is named is worth a look.
"""

from dataclasses import dataclass

import numpy as np

# Perplexity 1.0001: no text is that predictable, and LLaMA-Factory logs a failed step as exactly 0.0.
ZERO = 1e-4  # nats per token
# A level is the median of a few points; with fewer points than this there is no telling noise from trend.
FEWEST = 5  # points
# A useful run falls by tens of per cent; 2 % is less than the order of the batches decides. Where the noise alone
# could hide a fall of 10 %, nobody can say that there was none.
FALL, HIDDEN_FALL = 0.02, 0.10  # shares of the level
# Hard batches reach 1.48 times the level and 8 deviations in a sound run of tiny/lora that logs every step.
SPIKE_RATIO, SPIKE_DEVIATIONS, SPIKE_POINTS = 1.5, 10, 8
# A step of 7 % between two epochs; with five points on either side, noise of any level gives 5 errors at less than
# one boundary in a thousand.
STEP, STEP_ERRORS, STEP_POINTS = 0.07, 5, 5
# The evaluation set is the same every time, so its loss moves little by chance; 2 % are 5 % of perplexity at 2.5 nats.
RISE, RISE_DEVIATIONS = 0.02, 3
# A mean cannot lie below its lowest term; a tenth of it leaves out runs that were resumed well before their end.
MEAN = 0.1  # of the lowest loss
THRESHOLDS = {
    "zero": [ZERO, MEAN],
    "never_fell": [FEWEST, FALL, HIDDEN_FALL],
    "spike": [SPIKE_POINTS, SPIKE_RATIO, SPIKE_DEVIATIONS],
    "epoch_step": [STEP_POINTS, STEP, STEP_ERRORS],
    "overfitting": [RISE, RISE_DEVIATIONS],
}


@dataclass(frozen=True)
class Curve:
    """A run's losses in nats per token; the arrays are one-dimensional, in the order of the steps."""

    steps: np.ndarray  # (n,) training steps at which the loss was logged
    loss: np.ndarray  # (n,) mean training loss since the step logged before; NaN or inf as logged
    epochs: np.ndarray  # (n,) passes through the data at each of the steps
    failed: np.ndarray  # (n,) whether the record tells that the gradient was NaN or inf
    eval_steps: np.ndarray  # (m,)
    eval_loss: np.ndarray  # (m,)
    train_loss: float | None = None  # the mean that LLaMA-Factory reports for the run; None if not ended or not known

    def real(self) -> "Curve":
        """The curve without the points that are no losses: not finite, or zero."""
        keep, keep_eval = (np.isfinite(loss) & (loss > ZERO) for loss in (self.loss, self.eval_loss))
        train = (values[keep] for values in (self.steps, self.loss, self.epochs, self.failed))
        return Curve(*train, self.eval_steps[keep_eval], self.eval_loss[keep_eval], self.train_loss)


@dataclass(frozen=True)
class Finding:
    """Something amiss: its name, the step where it is, and a sentence for people."""

    name: str
    step: int
    says: str


def findings(curve: Curve) -> list[Finding]:
    """All that is amiss in ``curve``; empty if nothing is."""
    real = curve.real()
    found = [nan(curve), zero(curve), never_fell(real), spike(real), epoch_step(real), overfitting(real)]
    return [finding for finding in found if finding]


def nan(curve: Curve) -> Finding | None:
    """A training or evaluation loss is NaN or infinite.

    The trainer logs a NaN loss as 0.0 (``logging_nan_inf_filter``); its gradient, where recorded, gives it away. A NaN
    gradient beside a real loss is no fault: fp16 skips such steps.
    """
    bad = ~np.isfinite(curve.loss) | (curve.failed & (curve.loss <= ZERO))
    bad_eval = ~np.isfinite(curve.eval_loss)
    where = np.concatenate([curve.steps[bad], curve.eval_steps[bad_eval]])
    if not where.size:
        return None
    counts = f"{bad.sum()} of {bad.size} training and {bad_eval.sum()} of {bad_eval.size} evaluation points"
    return Finding("nan", step := int(where.min()), f"The loss is NaN or infinite from step {step} on ({counts}); start"
                   " over with a tenth of the learning rate, and with bf16 if it was fp16.")  # fmt: skip


def zero(curve: Curve) -> Finding | None:
    """The training loss is 0.0, or the run's reported mean loss is a tenth of its lowest or less.

    The reported mean divides the sum since the last start by all steps. A mean cannot lie below its lowest term, so a
    low one means that the run was resumed near its end or after it. Points that `nan` explains are left to it.
    """
    at_zero = (np.abs(curve.loss) <= ZERO) & ~curve.failed
    if at_zero.any():
        step = int(curve.steps[at_zero][0])
        return Finding("zero", step, f"The loss is 0.0 at {at_zero.sum()} of {at_zero.size} points, first at step"
                       f" {step}: NaN, which the trainer logs as 0.0, or no label is left to learn; run `make check`,"
                       " then start over with a tenth of the learning rate.")  # fmt: skip
    real = curve.real()
    if curve.train_loss is not None and real.loss.size and curve.train_loss <= MEAN * real.loss.min():
        step = int(curve.steps[-1])
        return Finding("zero", step, f"The run reports a mean loss of {curve.train_loss:.3f} at step {step}, but its"
                       f" lowest loss is {real.loss.min():.3f}: it was resumed when it had all but ended; read the loss"
                       " from the curve, or train anew with overwrite_output_dir=true.")  # fmt: skip
    return None


def never_fell(real: Curve) -> Finding | None:
    """No stretch of a third (from 30 points on a fifth) of the run lies below its start by more than noise explains.

    Noise explains `FALL` and two standard errors of the difference of two medians; if these are more than
    `HIDDEN_FALL`, the curve is too short for its noise and is not judged.
    """
    if real.loss.size < FEWEST:
        return None
    width = _width(real.loss.size)
    levels = _levels(np.log(real.loss), width)
    noise = _noise(real.loss)
    error = 1.25 * noise * np.sqrt(2 / width)  # the median's standard error is 1.25 times the mean's
    # A quick fall is over long before the first stretch is: the first point counts as well, and of many the first five.
    first = np.log(real.loss[:5])
    start = max(levels[0], first[0] - 3 * noise)
    if width > 5:
        start = max(start, np.median(first) - 3 * 1.25 * noise / np.sqrt(5))
    if 2 * error > HIDDEN_FALL or levels.min() - start < np.log(1 - FALL) - 2 * error:
        return None
    first, last = np.exp([start, levels[-1]])
    return Finding("never_fell", step := int(real.steps[-1]), f"The loss did not fall beyond its noise:"
                   f" a level of {first:.3f} at the start, of {last:.3f} up to step {step}; run `make check` to see"
                   " that the replies carry loss, then train longer or with another learning rate (a lower one if"
                   " the loss rises).")  # fmt: skip


def spike(real: Curve) -> Finding | None:
    """A loss lies half as high again as the lowest level before it, and ten deviations of the noise above it.

    A level is the median of five points. Measured from the lowest level and not from the one just before, a run that
    diverges bit by bit is found as well. Curves of fewer than `SPIKE_POINTS` points are not judged.
    """
    if real.loss.size < SPIKE_POINTS:
        return None
    lowest = np.minimum.accumulate(_levels(np.log(real.loss), 5))[:-1]
    height = np.log(real.loss[5:]) - lowest
    at = int(height.argmax())
    if height[at] < max(np.log(SPIKE_RATIO), SPIKE_DEVIATIONS * _noise(real.loss)):
        return None
    step, peak, level, last = int(real.steps[at + 5]), real.loss[at + 5], np.exp(lowest[at]), np.median(real.loss[-3:])
    back = last < np.sqrt(peak * level)
    after = f"it came back to {last:.3f}" if back else f"it did not come back ({last:.3f} at the end)"
    remedy = ("look at the data of that step if it matters, or " if back else "") + "lower the learning rate"
    return Finding("spike", step, f"The loss jumped to {peak:.3f} at step {step}, from {level:.3f}, and {after};"
                   f" {remedy}.")  # fmt: skip


def epoch_step(real: Curve) -> Finding | None:
    """The training loss drops by 7 % or more between two epochs, by five standard errors.

    The drop is that of a straight line with one step in it, fitted by least squares to half an epoch on either side
    of the boundary: slope is no step, nor is a bend, which is alike on both sides. Fewer than `STEP_POINTS` points on
    a side are not judged.
    """
    drops = []
    ended = int(real.epochs[-1]) if real.epochs.size else 0
    for epoch in range(1, ended + 1):
        # A loss is a mean since the step logged before: the first point past a boundary may be of both epochs.
        cut = int(np.searchsorted(real.epochs, epoch, side="right"))
        first, end = np.searchsorted(real.epochs, [epoch - 0.5, epoch + 0.5])
        if min(cut - first, end - cut - 1) < STEP_POINTS:
            continue
        fitted = np.r_[first:cut, cut + 1 : end]
        design = np.stack([np.ones(fitted.size), real.epochs[fitted] - epoch, fitted > cut], axis=1)
        y = np.log(real.loss[fitted])
        fit = np.linalg.lstsq(design, y)[0]
        variance = np.sum((y - design @ fit) ** 2) / (fitted.size - 3) * np.linalg.inv(design.T @ design)[2, 2]
        if fit[2] < min(np.log(1 - STEP), -STEP_ERRORS * np.sqrt(variance)):
            drops.append((1 - np.exp(fit[2]), epoch, int(real.steps[cut])))
    if not drops:
        return None
    drop, epoch, step = max(drops)
    return Finding("epoch_step", step, f"The training loss drops by {drop:.0%} where epoch {epoch} ends, at step {step}"
                   f" (and so at {len(drops)} of {ended} ends): the model knows the examples by heart;"
                   " train fewer epochs or on more data.")  # fmt: skip


def overfitting(real: Curve) -> Finding | None:
    """The evaluation loss ends 2 % above its lowest, and the training loss falls by 2 % after that.

    From six evaluations on, the rise must be three deviations of their noise as well, which second differences tell;
    the last two evaluations, if two follow the lowest, must both be that much higher.
    """
    if real.eval_loss.size < 2 or real.loss.size < FEWEST:
        return None
    y = np.log(real.eval_loss)
    lowest = int(y.argmin())
    deviation = 1.4826 * np.median(np.abs(np.diff(y, 2))) / np.sqrt(6) if y.size >= 6 else 0.0
    rise = y[lowest + 1 :][-2:] - y[lowest]
    if not rise.size or rise.min() < max(np.log1p(RISE), RISE_DEVIATIONS * deviation):
        return None
    step = int(real.eval_steps[lowest])
    near = np.sort(np.argsort(np.abs(real.steps - step), kind="stable")[: _width(real.loss.size)])
    then, now = np.median(real.loss[near]), np.median(real.loss[-_width(real.loss.size) :])
    if now > then * (1 - FALL):
        return None
    return Finding("overfitting", step, f"The evaluation loss is lowest at step {step} ({real.eval_loss[lowest]:.3f})"
                   f" and {real.eval_loss[-1]:.3f} at the end, while training went on from {then:.3f} to {now:.3f}:"
                   " use the checkpoint nearest to that step, or train fewer epochs.")  # fmt: skip


def smooth(loss: np.ndarray) -> np.ndarray:
    """(n,) centred running medians of (n,) losses; the window shrinks at the ends, points that are NaN do not count."""
    half = max(1, loss.size // 30)
    with np.errstate(all="ignore"):
        windows = (loss[max(0, at - half) : at + half + 1] for at in range(loss.size))
        return np.array([np.median(window[np.isfinite(window)]) if np.isfinite(window).any() else np.nan
                         for window in windows])  # fmt: skip


def _width(size: int) -> int:
    """How many of ``size`` points make a level."""
    return max(1, size // (3 if size < 30 else 5))


def _levels(y: np.ndarray, width: int) -> np.ndarray:
    """(n - width + 1,) medians of ``width`` points in a row."""
    return np.median(np.lib.stride_tricks.sliding_window_view(y, width), axis=1)


def _noise(loss: np.ndarray) -> float:
    """Standard deviation of the noise of log losses, from the median absolute deviation of their differences."""
    change = np.diff(np.log(loss))
    return float(1.4826 * np.median(np.abs(change - np.median(change))) / np.sqrt(2))
