"""JSON results to a report a person would hand in. Reads nothing but the JSON."""
