"""Workload `llm`: a model and a text of the user's own; the text's perplexity under the model."""
