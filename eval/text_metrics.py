"""How close generated replies come to the true ones in words, and how varied they are. Marks count on neither side.

Every measure is a ``Statistic`` over replies. English only: ROUGE-L sees no other letters, and words end at spaces.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from data_prep.labellers.overlap import telling_words
from eval.intervals import Statistic, mean, ratio
from retrieval.text import strip_marks

_PUNCTUATION = re.compile(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]""")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_ORDERS = 4  # of n-grams in BLEU
_rouge = RougeScorer(["rougeL"], use_stemmer=True)
_bleu = BLEU()


def text_statistics(
    replies: Sequence[str], truths: Sequence[str], cards: Sequence[Sequence[str]]
) -> dict[str, Statistic]:
    """Name to ``Statistic``: ``f1``, ``rouge_l`` (0 to 1), ``bleu`` (0 to 100), ``distinct_2`` (0 to 1), ``words``
    (mean length), ``keywords`` (mean share of the card's telling words that the reply holds).

    Reply ``i`` is held against ``truths[i]``; its speaker has ``cards[i]``.
    """
    said, true = [strip_marks(text) for text in replies], [strip_marks(text) for text in truths]
    pairs = list(zip(said, true, strict=True))
    per_card = zip(said, cards, strict=True)
    keywords = np.array([keyword_counts(reply, card) for reply, card in per_card]).reshape(-1, 2)
    # A card without keywords tells nothing of its reply, which is left out.
    shares = keywords[:, 0] / np.maximum(keywords[:, 1], 1)
    return {
        "f1": Statistic(mean, (np.array([unigram_f1(*pair) for pair in pairs]),)),
        "rouge_l": Statistic(mean, (np.array([rouge_l(*pair) for pair in pairs]),)),
        "bleu": Statistic(corpus_bleu, tuple(bleu_counts(said, true).T)),
        "distinct_2": Statistic(mean, (distinct_2_values(said),)),
        "words": Statistic(mean, (np.array([len(reply.split()) for reply in said]),)),
        "keywords": Statistic(ratio, (shares, (keywords[:, 1] > 0).astype(int))),
    }


def normalised_words(text: str) -> list[str]:
    """Words in lower case, punctuation and articles taken out, as ParlAI's ``normalize_answer`` has them: "don't" is
    two words."""
    return _ARTICLES.sub(" ", _PUNCTUATION.sub(" ", text.lower())).split()


def unigram_f1(reply: str, truth: str) -> float:
    """F1 of the words of ``reply``, each as often as it occurs; ConvAI2's measure. 0 if they share none."""
    ours, theirs = normalised_words(reply), normalised_words(truth)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def rouge_l(reply: str, truth: str) -> float:
    """F-measure of the longest common subsequence (Lin 2004), of stems, by the package rouge-score."""
    return _rouge.score(truth, reply)["rougeL"].fmeasure


def bleu_counts(replies: Sequence[str], truths: Sequence[str]) -> np.ndarray:
    """What BLEU needs to know of each of n replies, (n, 10): its length and that of the truth in sacrebleu's tokens,
    then how many of its n-grams are in the truth, and how many it has, from unigrams to 4-grams."""
    scores = (_bleu.corpus_score([reply], [[truth]]) for reply, truth in zip(replies, truths, strict=True))
    rows = [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores]
    return np.array(rows, dtype=int).reshape(-1, 2 + 2 * _ORDERS)


def corpus_bleu(*counts: np.ndarray, axis: int = -1) -> np.ndarray:
    """sacrebleu's corpus BLEU, 0 to 100, of the ten columns of ``bleu_counts`` summed along ``axis``."""
    sums = np.stack([column.sum(axis) for column in counts], axis=-1)
    scores = [
        BLEU.compute_bleu(row[2 : 2 + _ORDERS], row[2 + _ORDERS :], *row[:2], smooth_method=_bleu.smooth_method).score
        for row in sums.reshape(-1, len(counts)).tolist()
    ]
    return np.array(scores).reshape(sums.shape[:-1])


def bleu_signature() -> str:
    """sacrebleu's signature of ``corpus_bleu`` with one reference: to be written beside its values."""
    _bleu.corpus_score([""], [[""]])  # the signature holds the number of references, known from the last use
    return str(_bleu.get_signature())


def distinct_2_values(replies: Sequence[str]) -> np.ndarray:
    """Numbers, (n,), whose mean is distinct-2 of n replies: different bigrams / bigrams, over all replies together
    (Li et al. 2016), of ParlAI's words.

    Distinct-2 cannot be taken of resamples: a reply drawn twice brings nothing new, so that they all lie below the
    true value. These are jackknife pseudo-values, n D - (n - 1) D_i with D_i taken without reply i, shifted to have D
    as their mean; a bootstrap over them has the width of the jackknife (Efron and Stein 1981: rather too wide).
    """
    bigrams = [list(pairwise(normalised_words(reply))) for reply in replies]
    holders = Counter(bigram for reply in bigrams for bigram in set(reply))
    alone = np.array([sum(holders[bigram] == 1 for bigram in set(reply)) for reply in bigrams])
    lengths = np.array([len(reply) for reply in bigrams])
    value = len(holders) / max(lengths.sum(), 1)
    without = (len(holders) - alone) / np.maximum(lengths.sum() - lengths, 1)
    influence = (len(replies) - 1) * (value - without)
    return value + influence - influence.mean()


def keyword_counts(reply: str, card: Sequence[str]) -> tuple[int, int]:
    """How many of the telling words of ``card`` occur in ``reply``, and how many there are."""
    keywords = telling_words(" ".join(card))
    return len(keywords & telling_words(reply)), len(keywords)
