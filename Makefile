# exchange.mitigation: what one does with a checkout. No root, no containers.
#
#   make env    .venv/ and .collections/, once; again only when a requirement file changes
#   make demo   a fleet of three simulated servers, from the first look to mitigated and back
#   make test   the tests
#   make sweep  every fault at every message and at every write, which takes long (a sample is in make test)
#   make bench  how fast a drift check is, beside what else gathers the same facts; about six minutes
#   make soak   drift runs over 200 servers for MINUTES (30), and whether anything leaks
#   make lint   style, types and Ansible's own rules (installs the tools it needs into .build/)

PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3.10 python3,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
LINK := .collections/ansible_collections/exchange/mitigation
STAMP := $(VENV)/.requirements
REQUIREMENTS := requirements.txt tests/requirements.txt
TIERS := $(wildcard tests/unit tests/attacks tests/system)

export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
export PYTHONPATH := $(CURDIR)/.collections
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: env demo test sweep lint bench soak

env: $(STAMP) $(LINK)
	@:

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.10 or newer is needed (set PYTHON=...)" >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(STAMP): $(REQUIREMENTS) | $(BIN)/python
	@echo "Installing $(REQUIREMENTS)"
	@$(BIN)/python -m pip install -qq $(REQUIREMENTS:%=--requirement %)
	@touch $@

$(LINK):
	@mkdir -p $(@D)
	@ln -sfn ../../.. $@

demo: env
	@$(BIN)/python tests/demo/demo.py

test: env
	@parallel=$$($(BIN)/python -c 'import xdist' 2>/dev/null && echo "-n 2" || echo ""); \
	code=0; ran=0; \
	for tier in tests/unit tests/attacks tests/system; do \
		if [ -z "$$(find $$tier -name 'test_*.py' 2>/dev/null | head -n 1)" ]; then echo "$$tier: no tests yet, left out"; continue; fi; \
		ran=1; echo "$$tier"; $(BIN)/python -m pytest $$tier -q $$parallel || code=1; \
	done; \
	if [ $$ran = 0 ]; then echo "make: no tests found" >&2; exit 1; fi; exit $$code

SWEEPS := $(wildcard $(addprefix tests/system/test_,wire_sweep.py wire_playbooks.py controller_faults.py host_faults.py mitigation_faults.py \
	url_rewrite_faults.py rollout_interrupt.py surroundings.py dns_flip.py))

sweep: env
	@EXCHANGE_MITIGATION_SWEEP=full $(BIN)/python -m pytest -q -s -p no:cacheprovider $(SWEEPS)

lint: env
	@tests/lint.sh

bench: env
	@$(BIN)/python tests/bench $(BENCH)

MINUTES ?= 30
soak: env
	@$(BIN)/python tests/bench --soak $(MINUTES)
