# EdgeBench's verbs. Only Python >= 3.10, g++ and make are needed; everything else comes into .venv.
#
# TORCH_INDEX=https://download.pytorch.org/whl/cpu  takes torch from there (see scripts/install.sh)
# UNPROVED=1                                       `make wheels` accepts a wheel that could not be run
# PYTHON=python3.12                                 makes .venv with that interpreter

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= out
export PYTHON

BIN    := $(VENV)/bin
NATIVE := pyproject.toml kernels/CMakeLists.txt scripts/install.sh \
          $(shell find kernels/csrc -type f \( -name '*.cpp' -o -name '*.h' \) 2>/dev/null)

# The census' NVRTC is of CUDA 13; a Jetson has one of CUDA 12.
CUDA_DEV := $(if $(wildcard /etc/nv_tegra_release),,$(shell echo ,cuda-dev))

.DEFAULT_GOAL := help
.PHONY: help bench test test-all lint format perf wheels fuzz site clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp per set of extras: made again when the packaging, the native code or the compiler's input changes.
$(VENV)/.installed: $(NATIVE)
	scripts/install.sh $(VENV)
	@touch $@

$(VENV)/.installed-test: $(NATIVE)
	scripts/install.sh $(VENV) test
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-all: $(NATIVE)
	scripts/install.sh $(VENV) test,loadgen,dev,servers,formats$(CUDA_DEV)
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

bench: $(VENV)/.installed  ## measure this machine, and make the leaderboard page of it
	@# exit code 5 (a rule or the accuracy was missed) still has numbers to show; it is passed on
	@code=0; $(BIN)/bench run --track closed --out $(OUT)/submissions || code=$$?; \
	if [ $$code -ne 0 ] && [ $$code -ne 5 ]; then exit $$code; fi; \
	$(BIN)/bench leaderboard $(OUT)/submissions --out $(OUT)/leaderboard || exit $$?; \
	printf '\nThe leaderboard: file://%s/leaderboard/index.html\n' "$(abspath $(OUT))"; \
	exit $$code

test: $(VENV)/.installed-test  ## unit, torch and small end-to-end tests (about 25 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow and not browser" --ignore tests/loadgen

test-all: $(VENV)/.installed-all  ## everything that `make test` leaves out: browser, sanitizers, LoadGen, every ISA, NVRTC
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or nvrtc" tests/cuda
	$(BIN)/python -m pytest -m "slow or browser or nvrtc or servers or formats" --ignore tests/cuda
	$(BIN)/python -m pytest tests/loadgen
	tests/native/every_isa.sh $(BIN)/python
	tests/native/sanitize.sh $(BIN)/python
	tests/native/neon_qemu.sh
	tests/native/fuzz.sh $(BIN)/python 10

lint: $(VENV)/.installed-all  ## what pre-commit checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml
	find kernels/csrc tests/native -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | xargs -r $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.installed-all  ## format Python and C++
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	find kernels/csrc tests/native -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | xargs -r $(BIN)/clang-format -i

perf: $(VENV)/.installed  ## time the kernels against this machine's ceilings
	@# exit code 3: there is no such device here, which the script said
	@for script in kernels/perf/*.py; do echo "== $$script"; $(BIN)/python $$script || [ $$? -eq 3 ] || exit 1; done

wheels:  ## wheels for x86-64 and aarch64 in dist/, both run before they count (see scripts/wheels.sh)
	scripts/wheels.sh $(if $(UNPROVED),--unproved)

fuzz: SECONDS ?= 600
fuzz: $(VENV)/.installed-all  ## fuzz the kernels' doors under sanitizers: make fuzz SECONDS=600
	tests/native/fuzz.sh $(BIN)/python $(SECONDS)

site: $(VENV)/.installed  ## the leaderboard's pages of the repository's own submissions, in out/site
	$(BIN)/bench leaderboard submissions --out $(OUT)/site
	@printf '\nThe site: file://%s/site/index.html\n' "$(abspath $(OUT))"

clean:  ## remove .venv, build/ and caches; out/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
	find harness workloads kernels reports tests -name __pycache__ -type d -prune -exec rm -rf {} +
