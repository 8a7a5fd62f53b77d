"""TorchScript archives as OpenAI's CLIP is published in: tensors come out, and nothing in them is run."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitreous.errors import CheckpointError
from vitreous.weights.files import read_weights
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions
from vitreous.weights.torch_files import is_script, read_script

WIDTH, PATCH, TEXT = 64, 8, 16


class Bare(nn.Module):
    """A module that holds what it is given."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def nested(tensors: dict[str, Tensor]) -> nn.Module:
    """Return modules whose parameters have these names, as OpenAI's tree of modules has."""
    root = Bare()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module: Any = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, Bare())
            module = module.get_submodule(part)
        if tensor.is_floating_point():
            module.register_parameter(last, nn.Parameter(tensor))
        else:
            module.register_buffer(last, tensor)
    return root


def clip() -> dict[str, Tensor]:
    """Return random tensors under the names of OpenAI's archives: an image tower, a text tower, three numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "positional_embedding": (7, TEXT),
        "text_projection": (TEXT, 12),
        "logit_scale": (),
        "visual.class_embedding": (WIDTH,),
        "visual.positional_embedding": (5, WIDTH),
        "visual.proj": (WIDTH, 12),
        "visual.conv1.weight": (WIDTH, 3, PATCH, PATCH),
        "token_embedding.weight": (9, TEXT),
        "ln_final.weight": (TEXT,),
        "ln_final.bias": (TEXT,),
    }
    for tower, width in (("visual.transformer", WIDTH), ("transformer", TEXT)):
        for block in (0, 1):
            names = {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,)}
            names |= {"attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,)}
            names |= {"mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,)}
            names |= {"mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,)}
            names |= {f"ln_{norm}.{part}": (width,) for norm in (1, 2) for part in ("weight", "bias")}
            shapes |= {f"{tower}.resblocks.{block}.{name}": shape for name, shape in names.items()}
    for norm in ("ln_pre", "ln_post"):
        shapes |= {f"visual.{norm}.{part}": (WIDTH,) for part in ("weight", "bias")}
    found = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    numbers = {"input_resolution": 16, "context_length": 7, "vocab_size": 9}
    return found | {name: torch.tensor(value) for name, value in numbers.items()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "ViT-B-32.pt"
    torch.jit.script(nested(clip())).half().save(str(path))
    return path


def test_every_tensor_comes_out_under_its_name_and_to_the_bit(archive: Path) -> None:
    found, _ = read_script(archive)
    expected = clip()
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        stored = tensor.half() if tensor.is_floating_point() else tensor
        assert found[name].dtype == stored.dtype
        assert torch.equal(found[name], stored)


def test_it_is_openais_clip_widened_to_float32(archive: Path, tmp_path: Path) -> None:
    folder, report = load_foreign(archive)
    assert report.origin.startswith("clip:")
    assert any("its code was not run" in note for note in report.notes)
    assert folder.model.config.block.activation == "quick-gelu"  # type: ignore[union-attr]
    assert folder.model.head.weight.dtype == torch.float32
    torch.save({name: tensor.half().float() for name, tensor in clip().items() if tensor.ndim}, tmp_path / "same.pth")
    same, _ = load_foreign(tmp_path / "same.pth", LoadOptions(family="openai"))
    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(folder.model(images), same.model(images))


def test_a_traced_module_and_shared_and_strided_tensors_are_read(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(12.0).reshape(3, 4))
            self.turned = nn.Parameter(self.weight.detach().t())
            self.sizes, self.flag, self.word = [1, 2], True, "word"

        def forward(self, images: Tensor) -> Tensor:
            return images @ self.turned

    module = Twice()
    torch.jit.trace(module, torch.ones(1, 4, 4)[..., :4]).save(str(tmp_path / "a.pt"))
    found, _ = read_script(tmp_path / "a.pt")
    assert torch.equal(found["weight"], module.weight)
    assert torch.equal(found["turned"], module.turned)


def test_a_state_dict_is_no_archive_of_a_program(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    assert not is_script(tmp_path / "a.pt")
    assert torch.equal(read_weights(tmp_path / "a.pt").tensors["a"], torch.ones(2))


STORAGE = b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX%c\x00\x00\x00%sX\x03\x00\x00\x00cpuK%c"


def tensor(key: bytes = b"0", count: int = 4, shape: bytes = b"(K\x04t", strides: bytes = b"(K\x01t") -> bytes:
    """Return the instructions that describe a tensor of float32."""
    storage = b"(" + STORAGE % (len(key), key, count) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + strides + b"\x89}tR"


def module(attributes: bytes) -> bytes:
    """Return the description of a module with one attribute."""
    return b"\x80\x02c__torch__\nA\n)\x81}(X\x06\x00\x00\x00weight" + attributes + b"ub."


def written(folder: Path, description: bytes, records: dict[str, bytes] | None = None) -> Path:
    path = folder / "a.pt"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (records or {"data/0": torch.arange(4.0).numpy().tobytes()}).items():
            file.writestr(f"a/{name}", content)
        file.writestr("a/data.pkl", description)
        file.writestr("a/constants.pkl", b"\x80\x02).")
    return path


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("the code was run",))


HUGE = b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10"  # LONG1: 2^60
LOOP = b"\x80\x02c__torch__\nA\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00ub."
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a system call": (b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00exittR.", "it calls 'os system'"),
    "a pickle bomb": (pickle.dumps(Bomb(), 2), r"it calls '\w+ print'"),
    "an object of a foreign class": (b"\x80\x02cos\nsystem\n)\x81.", "it makes a 'os system'"),
    "an instruction that nobody needs": (b"\x80\x02(icollections\nOrderedDict\n.", "has the instruction INST"),
    "a build of something else": (b"\x80\x02ccollections\nOrderedDict\n}b.", "damaged TorchScript archive"),
    "a path out of the archive": (module(tensor(b"../../a")), r"it has no record '\.\./\.\./a'"),
    "a record that isn't there": (module(tensor(b"7")), "it has no record '7'"),
    "more values than the record has": (module(tensor(count=200, shape=b"(K\xc8t")), "doesn't hold 200 values"),
    "a shape beyond its storage": (module(tensor(shape=b"(K\x05t")), "lies outside its 4 values"),
    "a huge shape": (module(tensor(shape=b"(" + HUGE + b"t", strides=b"(K\x00t")), "claims .* of tensors in a file of"),
    "a negative shape": (module(tensor(shape=b"(J\xff\xff\xff\xfft")), "impossible shape"),
    "strides beyond its storage": (module(tensor(shape=b"(K\x02t", strides=b"(K\x09t")), "lies outside its 4 values"),
    "no strides": (module(tensor(strides=b")")), "without storage"),
    "an unknown storage": (
        module(tensor()).replace(b"FloatStorage", b"QInt8Storage"),
        "it holds quantised tensors",
    ),
    "a module in itself": (LOOP, "nested without end"),
    "no end": (b"\x80\x02]", "damaged TorchScript archive"),
    "nothing on the stack": (b"\x80\x02tR.", "damaged TorchScript archive"),
    "nothing at all": (b"", "damaged TorchScript archive"),
}


def test_the_sound_description_is_read(tmp_path: Path) -> None:
    """Else nothing is shown by the hostile ones."""
    found, _ = read_script(written(tmp_path, module(tensor())))
    assert torch.equal(found["weight"], torch.arange(4.0))


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_archives_get_one_clear_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    description, words = HOSTILE[name]
    path = written(tmp_path, description)
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250
    assert capfd.readouterr().out == ""


def test_archives_damaged_anywhere_never_raise_anything_else(tmp_path: Path) -> None:
    whole = written(tmp_path, module(tensor())).read_bytes()
    for place in range(0, len(whole), 3):
        for value in (0, 0xFF, whole[place] ^ 0x10):
            (tmp_path / "b.pt").write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                read_weights(tmp_path / "b.pt")
            except CheckpointError as error:
                assert "\n" not in str(error)
    (tmp_path / "b.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError):
        read_weights(tmp_path / "b.pt")
