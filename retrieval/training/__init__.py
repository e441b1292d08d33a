"""How ``tfidf``, ``bm25``, ``small`` and ``encoder`` come to know what they know; ``make retriever`` runs it all."""
