"""A run of the Trainer, from its recipe to the candidate that is saved."""
