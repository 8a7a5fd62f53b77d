"""Time and memory to load a model from a file: fresh processes, the file in the page cache, beside timm and transformers.

    python benchmarks/loading.py [--quick]

Each loads the same random weights, in float32, from the format that is its own: timm a safetensors file through
create_model and load_state_dict; transformers a folder through from_pretrained; vitreous its own model folder, and the
peers' very files. The peers' files are written by the safetensors library, as theirs are. Interleaved; medians.

Loading ends when the model is ready for a forward pass; a file that was mapped and not touched isn't in memory then, so
the same is shown once more with the first forward pass of one image. Memory is the peak resident set above that of the
imports (pages of a mapped file count as soon as they are touched). What vitreous does beyond its peers in that time: it
looks at every value and refuses NaN. Ratios are the peer's figure divided by that of vitreous reading its own folder.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from photographs import COMPILED
from safetensors.torch import load_file, save_file

from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import BlockConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.weights.conversion import convert
from vitreous.weights.model_folder import ModelFolder, save_model

HEAD = """
import json, sys, time
begun = time.perf_counter()
def status(name):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name)))
sys.path.insert(0, sys.argv[1])
"""
TAIL = """
import torch
images = torch.zeros(1, 3, 224, 224)
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
imported, before = time.perf_counter(), status("VmRSS")
model = load(sys.argv[2])
loaded, memory = time.perf_counter(), status("VmHWM")
with torch.inference_mode():
    model(images)
done, after = time.perf_counter(), status("VmHWM")
print(json.dumps({
    "imports": imported - begun, "loading": loaded - imported, "memory": (memory - before) / 1024,
    "first": done - imported, "memory_first": (after - before) / 1024, "all": done - begun,
}))
"""
OWN = "vitreous, its own folder"
LOADERS = {
    OWN: """
from vitreous.weights.loading import open_model
load = lambda path: open_model(path + "/own")[0].model
""",
    "vitreous, timm's file": """
from vitreous.weights.loading import open_model
load = lambda path: open_model(path + "/timm")[0].model
""",
    "vitreous, transformers' folder": """
from vitreous.weights.loading import open_model
load = lambda path: open_model(path + "/huggingface")[0].model
""",
    "timm": """
import timm_peer; timm_peer.let_torchvision_load()
import json as js, timm
from safetensors.torch import load_file
def load(path):
    given = js.load(open(path + "/timm/config.json"))
    model = timm.create_model(given["architecture"], num_classes=given["num_classes"], **given["model_args"]).eval()
    model.load_state_dict(load_file(path + "/timm/model.safetensors"))
    return model
""",
    "transformers": """
import timm_peer; timm_peer.let_torchvision_load()
from transformers import ViTForImageClassification
load = lambda path: ViTForImageClassification.from_pretrained(path + "/huggingface").eval()
""",
}
SHOWN = {
    "imports": ("imports", "s", 2),
    "loading": ("loading", "s", 3),
    "memory": ("peak", "MiB", 0),
    "first": ("to the first output", "s", 3),
    "memory_first": ("peak", "MiB", 0),
    "all": ("from start", "s", 2),
}
"""What is measured, in order: its words, its unit, its digits."""


def write(folder: Path, name: str) -> None:
    """Write one random model in every format."""
    config = build_vit_config(name, block=BlockConfig(activation="gelu"))
    classes = tuple(f"class {number}" for number in range(config.classes))
    made = ModelFolder(create(config).eval(), PreprocessConfig(), DecodeConfig(), classes)
    save_model(folder / "own", made)
    for peer in ("timm", "huggingface"):
        convert(made, folder / peer, peer)
        file = folder / peer / "model.safetensors"
        save_file({key: tensor.clone() for key, tensor in load_file(file).items()}, file, {"format": "pt"})


def measured(place: str, rounds: int) -> dict[str, dict[str, float]]:
    """Run every loader in fresh processes, in turn, once to warm up; return the medians."""
    found: dict[str, list[dict]] = {loader: [] for loader in LOADERS}
    for turn in range(rounds + 1):
        for loader, code in LOADERS.items():
            script = [sys.executable, "-c", HEAD + code + TAIL, str(Path(__file__).parent), place]
            output = subprocess.run(script, check=True, capture_output=True, text=True, env=COMPILED).stdout
            if turn:
                found[loader].append(json.loads(output.splitlines()[-1]))
    return {
        loader: {key: statistics.median(one[key] for one in runs) for key in SHOWN} for loader, runs in found.items()
    }


def show(found: dict[str, dict[str, float]]) -> None:
    """Print the medians, and each peer's divided by ours."""
    for loader, middle in found.items():
        parts = [f"{words} {middle[key]:,.{digits}f} {unit}" for key, (words, unit, digits) in SHOWN.items()]
        print(f"  {loader:31} {', '.join(parts)}", flush=True)
    for peer in ("timm", "transformers"):
        parts = [f"{words} {found[peer][key] / found[OWN][key]:.2f}" for key, (words, _, _) in SHOWN.items()]
        print(f"  ratio of {peer:22} {', '.join(parts)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="B/16 alone, fewer rounds")
    quick = parser.parse_args().quick
    for name in ("B/16",) if quick else ("B/16", "H/14"):
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), name)
            print(f"{name}, float32", flush=True)
            show(measured(place, 1 if quick else 5))


if __name__ == "__main__":
    main()
