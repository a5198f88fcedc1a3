"""Synthetic series. Each series depends only on the seed and its index."""

from pipeline.synthetic.kernel_synth import kernel_synth
from pipeline.synthetic.patterns import dummy_array, dummy_series

__all__ = ["dummy_array", "dummy_series", "kernel_synth"]
