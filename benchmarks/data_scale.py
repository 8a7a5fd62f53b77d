"""Choose the learning rates of study `data-scale`: each arm at each rate, on 60,000 images, on a seed that the study never uses.

    python benchmarks/data_scale.py [--arm ViT] [--each 60] [--seed 1000] [--duration 200kex]

Prints the accuracy on the instances held out for choosing weights; the best rate of each arm belongs in
`vitreous.studies.data_scale.RATES`.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from vitreous.data.config import DataConfig
from vitreous.studies.data_scale import ARMS, configure_run
from vitreous.studies.engine.data_subset import open_setting
from vitreous.training.run import train

TRIED = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", choices=ARMS, help="only this one, so that two processes share the work")
    parser.add_argument("--each", type=int, default=60, help="training images of each of the 1,000 classes")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--duration", default="200kex")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        setting = open_setting("laptop", DataConfig().path, Path(folder) / "study")
        for arm in [options.arm] if options.arm else ARMS:
            for rate in TRIED:
                config = replace(
                    configure_run(setting, arm, 1000, options.each, rate), seed=options.seed, duration=options.duration
                )
                result = train(config, Path(folder) / f"{arm}-{rate:g}")
                if result.signal is not None:
                    raise SystemExit(128 + result.signal)
                print(f"{arm}, rate {rate:g}: {result.metrics['top1']:.2%} of the held-out instances", flush=True)


if __name__ == "__main__":
    main()
