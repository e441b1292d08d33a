"""persona-tiny, the CPU-sized model of the demo and the tests, and the script that makes it."""
