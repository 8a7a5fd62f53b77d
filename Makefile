# make demo   digits and photographs: train, measure, sort, report, in three minutes once the packages are there
# make test   the tests          make check   format, lint, types, architecture
# make bench  speed and memory beside peers (quick)          make docs   run the documents' code, check their links
# make site   the documents in both languages and the functions of Python, as pages with search: build/site
# make fuzz   20,000 mutated images and 6,000 mutated weights and manifests, in processes with limits (some 15 minutes)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEVELOP := $(VENV)/.ready-to-develop
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: setup demo test check wheel bench docs site fuzz clean

setup: $(DEVELOP)

# What is needed to use vitreous, and the demo's photographs. A .venv that is there already is kept, and added to.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "vitreous needs Python 3.11 or later as '$(PYTHON)'; name another one: make PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV): on Linux a download of about 2 GB, or 200 MB with PyTorch's CPU build (README.md, Install); later runs skip this"
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear $(VENV) || { echo "could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PIP) -e '.[demo]'
	@touch $(READY)

# The developers' tools on top of that.
$(DEVELOP): $(READY)
	$(PIP) -e '.[dev]'
	@touch $(DEVELOP)

demo: $(READY)
	@rm -rf runs/demo
	$(BIN)/vitreous train digits --duration 60ep --out runs/demo/digits
	$(BIN)/python examples/write_digits.py runs/demo/some-digits
	$(BIN)/vitreous predict runs/demo/digits runs/demo/some-digits --top 2
	$(BIN)/python examples/write_photographs.py runs/demo
	$(BIN)/vitreous train runs/demo/photos --weights starter --out runs/demo/photos-run
	$(BIN)/vitreous predict runs/demo/photos-run runs/demo/unsorted --sort-into runs/demo/sorted
	@echo
	@echo "That was a Vision Transformer trained from nothing on digits, and a small ResNet that came with vitreous, taught seven kinds of photographs."
	@echo "All crops of a kind are of one photograph, so they are easier to tell apart than yours will be."
	@echo "Reports, with pictures:    runs/demo/digits/report.html  runs/demo/photos-run/report.html"
	@echo "The photographs, sorted:   runs/demo/sorted"
	@echo "Your own images next:      $(BIN)/vitreous train FOLDER_OF_CLASS_FOLDERS"

# One thread in each of as many processes as there are cores, and one: torch's threads would wait for each other, and some tests
# wait for servers.
# Compiled modules are kept, whatever the environment says: with them each of the processes starts 12 s sooner.
test: $(DEVELOP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: $(DEVELOP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

# Build the wheel, and use it outside the checkout: build/wheel
wheel: $(DEVELOP)
	.ci/wheel

bench: $(DEVELOP)
	$(BIN)/python benchmarks/speed.py --quick
	$(BIN)/python benchmarks/loader.py --quick

docs: $(DEVELOP)
	$(BIN)/python -m pytest -m "slow or not slow" tests/test_docs.py tests/test_readme.py tests/test_notebooks.py

# Both languages and the functions of Python, searchable, without a network: open build/site/index.html
site: $(DEVELOP)
	$(BIN)/python -m sphinx -b html -j auto -W --keep-going -q -c docs/site -d build/site-cache . build/site

# `make fuzz FUZZ='--kind images --count 1000 --seed 1'` for a part, or other cases.
fuzz: $(DEVELOP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(FUZZ)

clean:
	rm -rf $(VENV) build runs/demo
