"""Model checkpoints: find, load, create, adapt and upload them."""
