"""The numbers of the table in docs/checkpoints.md: how far each origin's own code, or its reader, lies from vitreous.

    python benchmarks/proofs.py
    python benchmarks/proofs.py families_beit families_timm

Runs the comparisons of tests/references (random weights, float32; each builds the reference, saves its file as its owner
does, loads it and runs both) and prints, for each origin, the largest difference of logits or features that was seen: at
the size of the file, and at another one, not square, where the reference can. Names of tests run these alone. Needs the
development extras.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
TESTS = (
    "families_timm",
    "families_timm_variants",
    "families_aimv2",
    "families_beit",
    "families_google",
    "families_huggingface",
    "families_transformers",
    "families_originals",
    "families_jepa",
    "families_linear_heads",
    "families_vit_pytorch",
    "families_resnet",
    "families_bit",
    "families_bit_pytorch",
    "families_swin",
    "families_efficientnet",
)
CLOSE = 2e-5
"""Comparisons further apart than this are those that show a difference on purpose; the tests fail for others."""


class Recorder:
    """A plugin that listens to what the tests compare."""

    def __init__(self) -> None:
        self.loaded: dict[int, tuple[str, bool, Any]] = {}
        """Of each model that was loaded, by its number: its origin, whether it was resized, and the model itself."""
        self.found: dict[str, dict[bool, list[float]]] = defaultdict(lambda: {False: [], True: []})

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Listen to loading, and to every module's comparisons."""
        from vitreous.weights import foreign

        adapt = foreign.adapt

        def noted(folder: Any, options: Any) -> Any:
            result, changes = adapt(folder, options)
            self.loaded[id(result.model)] = (result.origin["family"], bool(changes.resized), result.model)
            return result, changes

        foreign.adapt = noted
        for module in {item.module for item in session.items if isinstance(item, pytest.Function)}:
            if hasattr(module, "difference"):
                module.difference = self.listening(module.difference)

    def listening(self, difference: Any) -> Any:
        """Return a comparison that writes down what it finds."""

        def compared(ours: Any, *others: Any, **more: Any) -> float:
            value = difference(ours, *others, **more)
            family, resized, _ = self.loaded.get(id(ours), ("", False, None))
            sizes = [other for other in others if isinstance(other, tuple)]
            if family and value < CLOSE:
                self.found[family][resized or any(size != tuple(ours.config.image) for size in sizes)].append(value)
            return value

        return compared


def main() -> None:
    recorder = Recorder()
    paths = [str(ROOT / "tests" / "references" / f"test_{name}.py") for name in sys.argv[1:] or TESTS]
    plain = ("-o", "addopts=--import-mode=importlib")  # without the checks of array shapes, which take most of the time
    code = pytest.main(["-q", "-p", "no:cacheprovider", *plain, *paths], plugins=[recorder])
    print(f"\n{'origin':14} {'comparisons':>11}  {'its own size':>12}  {'another size':>12}")
    for family in sorted(recorder.found):
        own, other = recorder.found[family][False], recorder.found[family][True]
        shown = [f"{max(values):.1e}" if values else "-" for values in (own, other)]
        print(f"{family:14} {len(own) + len(other):11}  {shown[0]:>12}  {shown[1]:>12}")
    sys.exit(code)


if __name__ == "__main__":
    main()
