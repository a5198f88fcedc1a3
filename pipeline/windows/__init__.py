"""Training and validation windows of stores and synthetic banks, and the model inputs made of them."""
