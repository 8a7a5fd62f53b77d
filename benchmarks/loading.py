"""Time and memory to load a model from a file: fresh processes, the file in the page cache, beside timm and transformers.

    python benchmarks/loading.py [--quick]

Each loads the same random weights, in float32, ready for a forward pass (which is not run), from the format that is its
own: timm a safetensors file through create_model and load_state_dict; transformers a folder through from_pretrained;
vitreous its own model folder, and timm's file. Interleaved; medians. Time is from the start of the process, imports
included, and of the loading alone; memory is the peak resident set above that of the imports (pages of a mapped file
count as soon as they are touched).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from vitreous.checkpoints.convert import convert
from vitreous.checkpoints.folder import ModelFolder, save_model
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import BlockConfig, named
from vitreous.model.vit import create

HEAD = """
import json, sys, time
begun = time.perf_counter()
def status(name):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name)))
sys.path.insert(0, sys.argv[1])
"""
TAIL = """
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
imported, before = time.perf_counter(), status("VmRSS")
model = load(sys.argv[2])
parameters = sum(parameter.numel() for parameter in model.parameters())
done, after = time.perf_counter(), status("VmHWM")
print(json.dumps({"all": done - begun, "loading": done - imported, "memory": (after - before) / 1024, "n": parameters}))
"""
LOADERS = {
    "vitreous, its own folder": """
from vitreous.checkpoints.open import open_model
load = lambda path: open_model(path + "/own")[0].model
""",
    "vitreous, timm's file": """
from vitreous.checkpoints.open import open_model
load = lambda path: open_model(path + "/timm")[0].model
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


def write(folder: Path, name: str) -> None:
    """Write one random model in every format."""
    config = named(name, block=BlockConfig(act="gelu"))
    classes = tuple(f"class {number}" for number in range(config.classes))
    made = ModelFolder(create(config).eval(), PreprocessConfig(), DecodeConfig(), classes)
    save_model(folder / "own", made)
    convert(made, folder / "timm", "timm")
    convert(made, folder / "huggingface", "huggingface")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="B/16 alone, fewer rounds")
    quick = parser.parse_args().quick
    for name in ("B/16",) if quick else ("B/16", "H/14"):
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), name)
            found: dict[str, list[dict]] = {loader: [] for loader in LOADERS}
            for turn in range(2 if quick else 6):
                for loader, code in LOADERS.items():
                    script = [sys.executable, "-c", HEAD + code + TAIL, str(Path(__file__).parent), place]
                    output = subprocess.run(script, check=True, capture_output=True, text=True).stdout
                    if turn:
                        found[loader].append(json.loads(output.splitlines()[-1]))
            print(f"{name}, {found['timm'][0]['n']:,} parameters")
            for loader, rounds in found.items():
                middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
                print(
                    f"  {loader:26} {middle['all']:6.2f} s from start, {middle['loading']:6.2f} s loading, "
                    f"{middle['memory']:8,.0f} MiB above the imports",
                    flush=True,
                )


if __name__ == "__main__":
    main()
