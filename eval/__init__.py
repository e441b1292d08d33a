"""Numbers: retrieval, grounding, likelihood, generation, judge. Each command writes JSON."""
