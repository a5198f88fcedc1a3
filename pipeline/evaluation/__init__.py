"""How far forecasts are off, and which model is better."""
