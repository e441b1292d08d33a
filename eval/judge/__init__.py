"""A language model as the judge of replies: ``python -m eval.judge``."""
