"""Labellers by name."""

from data_prep.labellers.llm import LlmLabeller
from data_prep.labellers.overlap import OverlapLabeller
from data_prep.labellers.precomputed import PrecomputedEncoder

LABELLERS = {labeller.name: labeller for labeller in (PrecomputedEncoder, OverlapLabeller, LlmLabeller)}
