# make demo   train on handwritten digits, measure, report: the whole thing in a few minutes
# make test   the tests          make check   format, lint, types, architecture
# make bench  speed and memory beside peers (quick)          make docs   run the documents' code, check their links
# make fuzz   20,000 mutated images and 6,000 mutated weights and manifests, in processes with limits (some 15 minutes)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test check bench docs fuzz clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "vitreous needs Python 3.11 or later as '$(PYTHON)'; name another one: make PYTHON=python3.12"; exit 1; }
	@rm -rf $(VENV)
	@echo "setting up $(VENV) (a few minutes and about 2 GB; later runs skip this)"
	@$(PYTHON) -m venv $(VENV) || { echo "could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	@rm -rf runs/demo
	$(BIN)/vitreous train digits --out runs/demo
	$(BIN)/python examples/write_digits.py runs/demo-images
	$(BIN)/vitreous evaluate runs/demo
	$(BIN)/vitreous predict runs/demo runs/demo-images --top 2
	@echo
	@echo "That was a Vision Transformer, trained here. Its report, with pictures: runs/demo/report.html"
	@echo "Your own images next: $(BIN)/vitreous train FOLDER_OF_CLASS_FOLDERS"

# One thread in each of as many processes as there are cores: torch's threads would wait for each other.
# Compiled modules are kept, whatever the environment says: with them each of the processes starts 12 s sooner.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/speed.py --quick
	$(BIN)/python benchmarks/loader.py --quick

docs: $(READY)
	$(BIN)/python -m pytest tests/test_docs.py tests/test_readme.py

# `make fuzz FUZZ='--kind images --count 1000 --seed 1'` for a part, or other cases.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(FUZZ)

clean:
	rm -rf $(VENV) build runs/demo runs/demo-images
