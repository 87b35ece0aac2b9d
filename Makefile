# Two commands on a fresh machine: `make demo` and `make test`. Each makes its own .venv first when there is none.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.ready

.PHONY: demo test check check-all fix bench docs clean
.DELETE_ON_ERROR:

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(SETUP)  ## the whole story on the embedded data, into ./demo
	$(BIN)/scrubjay demo --out demo

# The tests of the web page need Chromium, and are skipped where it is missing: apt-get install chromium
test: $(SETUP)  ## the tests that end within ten minutes
	$(BIN)/pytest -n 2 --dist loadfile

check: $(SETUP)  ## format, lint, types, import floors
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# Other processors and numbers of threads round differently; no test may depend on that.
check-all: check  ## everything: the slow tests too, then the others with the arithmetic of other processors
	$(BIN)/pytest -n 2 --dist loadfile -m "slow or not slow" --hypothesis-profile explore --cov --cov-report=term:skip-covered
	for variant in "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41" \
			"ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2" "OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE"; do \
		echo "== $$variant"; env $$variant $(BIN)/pytest -n 2 --dist loadfile || exit 1; \
	done

fix: $(SETUP)  ## correct format and lint where a machine can
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: $(SETUP)  ## the benchmarks against their peers, into docs/benchmarks.md, in at most 15 minutes
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev,bench]"
	$(BIN)/python benchmarks/run.py

docs: $(SETUP)  ## the page of all methods, from their docstrings and what a step costs
	$(BIN)/python benchmarks/studies/methods.py --page docs/methods.md

clean:
	rm -rf .venv demo
