"""Synthetic-Persona-Chat to LLaMA-Factory datasets: read, fill placeholders, ground, build, write."""
