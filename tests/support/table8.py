"""Table 8's cells and the positions that came after; what goes wrong when they are compiled and exported."""

import io
from dataclasses import replace

import torch
from torch import Tensor, nn

from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.vit import ViT
from vitreous.shapes import Size

PLAIN = ViTConfig(image=(8, 12), patch=(4, 4), width=16, depth=2, heads=2, mlp_width=24, classes=3)
LEARNED = {
    f"{kind}, {place}": {"positions": kind, "position_placement": place}
    for kind in ("learned", "learned2d")
    for place in ("input", "layers", "shared")
}
CELLS = {"none": {"positions": "none"}, **LEARNED, "relative": {"positions": "relative"}}
"""The paper's eight: its columns are where positions enter; relative ones have one column alone."""
AXIAL = {"block": BlockConfig(attention="axial"), "class_token": False, "pool": "mean"}
LATER = {
    "relative, shared": {"positions": "relative", "position_placement": "shared"},
    "bias": {"positions": "bias"},
    "bias, shared": {"positions": "bias", "position_placement": "shared"},
    "sincos2d": {"positions": "sincos2d"},
    "sincos2d-mae": {"positions": "sincos2d-mae"},
    "rotary cells": {"positions": "none", "rotary": RotaryConfig("cells")},
    "rotary centred": {"positions": "none", "rotary": RotaryConfig("centred")},
    "no class": {"positions": "learned", "class_token": False, "pool": "mean"},
    "map pooling": {"positions": "learned2d", "pool": "map"},
    "registers without places": {"registers": 2, "positioned_tokens": "class"},
    "distilled": {"distillation_token": True},
    "axial": AXIAL,
    "axial, rotary": AXIAL | {"positions": "none", "rotary": RotaryConfig("centred")},
}
BATCH = ({0: torch.export.Dim("batch", min=1)},)
FAR = Size(12, 20)


def model_of(cell: str) -> ViT:
    """Every parameter drawn at random: a zero head would hide mistakes."""
    model = create(replace(PLAIN, **(CELLS | LATER)[cell]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def images(count: int, size: tuple[int, int], seed: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def compiled(model: ViT) -> str | None:
    """One graph, forward and backward, with the same numbers."""
    torch._dynamo.reset()
    model.train()
    pixels = images(2, model.image)
    found = torch.compile(model, fullgraph=True, backend="eager")(pixels)
    found.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    model.eval()
    if any(gradient is None for gradient in gradients):
        return "compiled: a parameter without gradient"
    return far("compiled", found, model(pixels))


def exported(model: ViT) -> str | None:
    """torch.export with any batch, through a file; and the same program as ONNX."""
    program = torch.export.export(model, (images(2, model.image),), dynamic_shapes=BATCH)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    problem = worst("torch.export", model, torch.export.load(file).module())
    return problem or in_onnx(model, program)


def in_onnx(model: ViT, program: torch.export.ExportedProgram) -> str | None:
    """Run by onnxruntime; positions are constants: nothing in the graph resizes."""
    import onnxruntime

    written = torch.onnx.export(program, dynamo=True, input_names=["images"], verbose=False)
    file = io.BytesIO()
    written.save(file)
    used = {node.op_type for node in written.model_proto.graph.node}
    if used & {"Resize", "Upsample", "GridSample"}:
        return f"onnx: the graph resizes ({sorted(used)})"
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return worst("onnx", model, lambda pixels: torch.from_numpy(session.run(None, {"images": pixels.numpy()})[0]))


def worst(name: str, model: nn.Module, other) -> str | None:
    """Hold both against each other for batches of one and of five."""
    with torch.no_grad():
        for count in (1, 5):
            pixels = images(count, model.image, seed=count)
            problem = far(f"{name}, batch {count}", other(pixels), model(pixels))
            if problem:
                return problem
    return None


def far(name: str, found: Tensor, expected: Tensor) -> str | None:
    if found.shape != expected.shape:
        return f"{name}: {tuple(found.shape)} for {tuple(expected.shape)}"
    off = float((found - expected).detach().abs().max())
    return None if off < 1e-5 and bool(expected.abs().max() > 0.01) else f"{name}: off by {off:.1e}"


def check(cell: str, thorough: bool = False) -> list[str]:
    """Say what goes wrong; thoroughly: at every resolution."""
    model = model_of(cell)
    resized = model.resize(FAR)
    problems = [compiled(model), exported(resized)]
    if thorough:
        placed = model_of(cell)
        placed.set_resolution(Size(8, 8))
        problems += [exported(model), compiled(resized), exported(placed)]
    return [f"{cell}: {problem}" for problem in problems if problem]
