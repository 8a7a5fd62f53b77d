"""Write ten of scikit-learn's handwritten digits as PNG files: python examples/write_digits.py FOLDER."""

import sys
from pathlib import Path

from PIL import Image

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
held_out = open_dataset(DataConfig("digits")).validation
for index in range(10):
    label = held_out.classes[held_out.labels[index]]
    Image.fromarray(held_out.read(index)[:, :, 0]).save(folder / f"{held_out.names[index]}-is-a-{label}.png")
print(f"wrote 10 held-out digits to {folder}")
