"""Training: from prepared windows to the model that is saved. run.py tells the story."""
