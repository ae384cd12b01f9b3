# Every target is listed by `make` alone. Settings are variables, on the command line or in the environment:
#
#   PYTHON=python3        what makes the virtual environment: 3.10 or newer
#   TORCH_INDEX=<url>     a package index with CPU-only builds of torch, as PyTorch's install page names it for
#                         "CPU": 1 GB to install instead of 6. Only torch and torchvision come from it.
#   ARCHIVE=<file.mar>    model archive to serve
#   CONFIG=<file>         config.properties to start from: addresses, ports, limits
#   PORT_OFFSET=100       added to each of its ports (8080, 8081, 8082, 7070, 7071)
#   RUN_FOLDER=run        where a server keeps logs, process id, the overlay, temporary files
#   WORKERS=4             processes for predictions, instead of the archive's own number; for train: that augment

PYTHON ?= python3
VENV ?= .venv
ARCHIVE ?= model_store/cxr.mar
CONFIG ?= config.properties
RUN_FOLDER ?= run
PORT_OFFSET ?= 0

PY := $(VENV)/bin/python
SERVING := $(PY) -m serving
PLACES = --archive $(ARCHIVE) --config $(CONFIG) --run $(RUN_FOLDER) --port-offset $(PORT_OFFSET) $(if $(WORKERS),--workers $(WORKERS))
REST_PORT = $(shell expr $$(sed -n 's/^ *inference_address *=.*:\([0-9][0-9]*\).*/\1/p' $(CONFIG) | grep . || echo 8080) + $(PORT_OFFSET))
SOURCES := handler client serving training tests

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test start stop status predict explain train recipes evaluate card archive check format pins clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

serve: $(VENV)/.serving ## serve the archive, send it one real film, keep serving until Ctrl-C
	@exec $(SERVING) serve $(PLACES)

test: $(VENV)/.testing ## run the tests (ARGS="-k word" for some of them)
	@exec $(PY) -m pytest $(ARGS)

start: $(VENV)/.serving ## serve in the background
	@exec $(SERVING) start $(PLACES)

stop: $(VENV)/.serving ## stop what start or serve started
	@exec $(SERVING) stop $(PLACES)

status: $(VENV)/.serving ## say whether it runs and which workers are ready
	@exec $(SERVING) status $(PLACES)

predict: $(VENV)/.serving ## classify one film: FILE=film.dcm
	@test -n "$(FILE)" || { echo "error: Name a film: make predict FILE=film.dcm" >&2; exit 1; }
	@exec $(PY) -m client predict "$(FILE)" --port $(REST_PORT)

explain: $(VENV)/.serving ## the same with a heat map: FILE=film.dcm [METHOD=integrated_gradients] [OUTPUT=overlay.png]
	@test -n "$(FILE)" || { echo "error: Name a film: make explain FILE=film.dcm" >&2; exit 1; }
	@exec $(PY) -m client explain "$(FILE)" --port $(REST_PORT) $(if $(METHOD),--method $(METHOD)) $(if $(OUTPUT),--output "$(OUTPUT)")

train: $(VENV)/.serving ## train on an image folder: DATA=folder [RECIPE=default] [RUN=runs/default] [QUICK=1] [EPOCHS=n] [WEIGHTS=none] [DUPLICATES=drop] [SKIP_BROKEN=1] [WORKERS=n]
	@test -n "$(DATA)" || { echo "error: Name an image folder: make train DATA=folder" >&2; exit 1; }
	@exec $(PY) -m training train --data "$(DATA)" $(if $(RECIPE),--recipe "$(RECIPE)") $(if $(RUN),--run "$(RUN)") \
	    $(if $(QUICK),--quick) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(WEIGHTS),--weights "$(WEIGHTS)") \
	    $(if $(DUPLICATES),--duplicates $(DUPLICATES)) $(if $(SKIP_BROKEN),--skip-broken) $(if $(WORKERS),--workers $(WORKERS))

recipes: $(VENV)/.serving ## print published figures beside measured ones
	@exec $(PY) -m training recipes

evaluate: $(VENV)/.serving ## report of a run: RUN=folder DATA=folder [EXTERNAL=folder] [STRANGERS=folder] [RUN="a b c" for seeds]
	@test -n "$(RUN)" -a -n "$(DATA)" || { echo "error: Name both: make evaluate RUN=runs/default DATA=folder" >&2; exit 1; }
	@exec $(PY) -m training evaluate $(foreach run,$(RUN),--run "$(run)") --data "$(DATA)" \
	    $(if $(EXTERNAL),--external "$(EXTERNAL)") $(if $(STRANGERS),--strangers "$(STRANGERS)")

card: $(VENV)/.serving ## model card, its figures and the archive's README from a run's report: [RUN=runs/default] [DOCS=docs]
	@exec $(PY) -m training card $(if $(RUN),--run "$(RUN)") $(if $(DOCS),--docs "$(DOCS)") \
	    --archive-readme "$(dir $(ARCHIVE))README.md"

archive: $(VENV)/.serving ## build the model archive: [RUN=runs/default] [ARCHIVE=model_store/cxr.mar] [KEEP_WEIGHTS=1: ARCHIVE's own, new handler]
	@exec $(PY) -m training archive $(if $(RUN),--run "$(RUN)") $(if $(KEEP_WEIGHTS),--keep-weights) --output "$(ARCHIVE)"

check: $(VENV)/.testing ## judge the code: ruff and mypy --strict; changes nothing
	@$(PY) -m ruff check $(SOURCES)
	@$(PY) -m ruff format --check $(SOURCES)
	@$(PY) -m mypy --strict

format: $(VENV)/.testing ## format the code
	@$(PY) -m ruff check --fix-only $(SOURCES)
	@$(PY) -m ruff format $(SOURCES)

pins: ## resolve pyproject.toml into requirements.txt and requirements-dev.txt anew (needs uv)
	@command -v uv >/dev/null || { echo "error: uv is missing: pip install uv" >&2; exit 1; }
	@{ sed '/^[^#]/,$$d' requirements.txt; $(RESOLVE) pyproject.toml | grep -vE $(TORCHS_OWN); } > build.pins
	@mv build.pins requirements.txt
	@{ sed '/^[^#]/,$$d' requirements-dev.txt; echo "-r requirements.txt"; $(RESOLVE) --extra dev -c requirements.txt pyproject.toml \
	    | grep -vE $(TORCHS_OWN) | grep -vxFf requirements.txt; } > build.pins
	@mv build.pins requirements-dev.txt

RESOLVE = uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate
TORCHS_OWN = "^(nvidia-|cuda-|triton==)|sys_platform == 'win32'"

clean: ## remove what was made here, except the virtual environment, the archive and training runs
	@if [ -x $(PY) ]; then $(SERVING) stop $(PLACES); fi
	@rm -rf $(RUN_FOLDER) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment. A stamp says that everything in a requirements file is installed: a second run is quick.

NEEDED_GB = $(if $(TORCH_INDEX),2.5,8)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "error: $(PYTHON) is missing or older than 3.10: name a newer one, as in make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m serving.preflight . $(NEEDED_GB)
	@$(PYTHON) -m venv $(VENV) >&2 || { rm -rf $(VENV); \
	    echo "error: $(PYTHON) -m venv failed: install the package python3-venv, or name another PYTHON." >&2; exit 1; }

$(VENV)/.serving: requirements.txt | $(PY)
	@echo "Installing packages into $(VENV) (some minutes, once) ..." >&2
	@exec $(PY) -m serving.install requirements.txt --stamp $@ $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)")

$(VENV)/.testing: requirements-dev.txt $(VENV)/.serving
	@echo "Installing packages for the tests ..." >&2
	@exec $(PY) -m serving.install requirements-dev.txt --stamp $@
