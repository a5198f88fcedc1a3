"""From stores and banks to what the Trainer reads."""
