"""Faults of the input, told to people: the commands print the sentence and exit with code 2."""


class InputError(Exception):
    """One sentence that names the bad value and what to do."""
