"""Generations in repositories of the Hugging Face Hub: `scrubjay push` and `scrubjay pull`."""
