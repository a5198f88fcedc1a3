"""The tokens of Chronos-T5 and Chronos-GPT-2, a batch at a time."""

import numpy as np
import torch
from chronos import ChronosConfig
from chronos.chronos import MeanScaleUniformBins

from pipeline.core.errors import UserError


class Tokens:
    """What Chronos's own `MeanScaleUniformBins` gives, bit for bit: a value over the context's mean absolute value, in bins.

    A bin is computed, where the tokenizer searches 4,096 boundaries for it; and NumPy's operations on arrays as small as a
    batch cost less than half of torch's.
    """

    def __init__(self, config: ChronosConfig) -> None:
        """Take bins and special tokens from a model's configuration.

        Raises:
            UserError: its tokenizer is another one.
        """
        if config.tokenizer_class != MeanScaleUniformBins.__name__:
            raise UserError(
                f"the model's tokenizer {config.tokenizer_class} is not known here; train from a model whose "
                "chronos_config names MeanScaleUniformBins"
            )
        tokenizer = config.create_tokenizer()
        centers = tokenizer.centers.numpy()
        self.pad, self.eos = config.pad_token_id, config.eos_token_id
        self._boundaries = tokenizer.boundaries.numpy()
        self._low, self._per_unit = centers[0], (len(centers) - 1) / (centers[-1] - centers[0])
        self._first, self._last = config.n_special_tokens, config.n_tokens - 1

    @staticmethod
    def scale(context: torch.Tensor) -> np.ndarray:
        """Return the mean absolute value of each context [n, c], 1 where it is zero or unknown: [n]."""
        scale = (torch.nansum(context.abs(), dim=-1) / (~context.isnan()).sum(dim=-1)).numpy()
        scale[~(scale > 0)] = 1.0
        return scale

    def of(self, values: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of values [n, length] and which of them are known; of a missing value it is the padding."""
        scaled = values / scale[:, None]
        known = scaled == scaled
        place = scaled - self._low
        place *= self._per_unit
        place += np.float32(1.5)
        np.fmin(
            np.fmax(place, 1, out=place), len(self._boundaries) - 1, out=place
        )  # a missing value becomes a number too
        bins = place.astype(np.int64)
        # Rounding may have missed by one; the boundaries themselves say so.
        bins += scaled >= self._boundaries.take(bins, mode="clip")
        bins -= scaled < self._boundaries.take(bins - 1, mode="clip")
        bins += self._first
        np.minimum(bins, self._last, out=bins)
        np.copyto(bins, self.pad, where=~known)
        return bins, known
