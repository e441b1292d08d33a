"""Which facts of a card matter for a message, and how facts and message become the prompt.

Data building and serving both come through here, so that a model meets the prompts it was trained on.
"""
