import copy

import torch

from pipeline.config import LoraConfig
from pipeline.models.adapt import add_adapters, freeze
from pipeline.models.load import read_model
from pipeline.training.blends import Blend


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_a_blend_interpolates_and_its_ends_are_exact(tiny):
    base, model = read_model(tiny["bolt"]), read_model(tiny["bolt"])
    freeze(model, ["encoder"])
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    start, tuned = weights(base), weights(model)
    blend = Blend(model, base)
    for alpha in (0.3, 1.0, 0.0, 0.7):
        blend.set(alpha)
        for name, value in weights(model).items():
            if alpha in (0.0, 1.0):
                assert torch.equal(value, tuned[name] if alpha else start[name])
            torch.testing.assert_close(value, start[name] + alpha * (tuned[name] - start[name]))


def test_a_blend_of_adapters_scales_their_update(tiny):
    model = add_adapters(read_model(tiny["bolt"]), "bolt", LoraConfig())
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    merged = weights(copy.deepcopy(model).merge_and_unload())
    base = read_model(tiny["bolt"])
    Blend(model, base).set(0.5)
    start = weights(base)
    for name, value in weights(model.merge_and_unload()).items():
        torch.testing.assert_close(value, start[name] + 0.5 * (merged[name] - start[name]))
