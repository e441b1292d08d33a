"""Which facts of a card a reply uses: ``encoder`` (learned), ``overlap`` (plain) and ``llm`` (a strong model)."""
