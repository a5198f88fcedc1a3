"""Fine-tune and pretrain Chronos time-series models with the Hugging Face Trainer."""

__version__ = "0.1.0"
