# Two commands do everything on a fresh machine: `make up` and `make test`. The rest are thin names.

RUNNER := target/release/keystorm-runner
# Spin sets TCP_NODELAY nowhere: figures from a host that does would promise too much.
AS_SPIN := --host-arg=--tcp-nodelay=false

# What does not depend on the build, and the load test, run for one build alone.
ONCE := golden golden_requests deploy soak

.PHONY: up test setup build check soak demo bench bench-peers clean help
.DEFAULT_GOAL := help

up: build ## set up, build, serve at http://127.0.0.1:3000
	$(RUNNER) up

test: build target/.clients ## set up, run every test
	cargo nextest run --locked --package keystorm --package keystorm-ui
	cargo nextest run --locked --release --package keystorm-runner
	target/venv/bin/python -m pytest -q tests/clients
	scripts/build-component.sh keystorm-wasi02
	KEYSTORM_MANIFEST=spin-wasi02.toml target/venv/bin/python -m pytest -q tests/clients $(ONCE:%=--ignore=tests/clients/test_%.py)
	node --test tests/clients/
	scripts/test-browser.sh
	scripts/build-component.sh keystorm-floor
	target/release/bench --smoke $(AS_SPIN)

setup: ## install what builds and tests need
	scripts/setup.sh

build: setup ## build both components and the runner
	scripts/build-component.sh keystorm
	scripts/build-component.sh keystorm-ui
	cargo build --locked --release --package keystorm-runner --package keystorm-bench

target/.clients: tests/clients/requirements.txt tests/frameworks/requirements.txt tests/clients/package-lock.json tests/browser/package-lock.json
	scripts/setup-clients.sh
	touch $@

check: setup ## formatting, lints, documentation, dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --exclude keystorm-runner --all-targets -- -D warnings
	cargo clippy --locked --release --package keystorm-runner --all-targets -- -D warnings
	cargo $$(scripts/wasm-target.sh) build --locked --target wasm32-wasip2 --profile component --package keystorm --package keystorm-ui --package keystorm-floor
	scripts/build-component.sh keystorm-wasi02
	scripts/wasi02-manifest.sh | diff - spin-wasi02.toml
	scripts/check-dependencies.sh
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --package keystorm
	for file in static/*.js static/i18n/*.js static/views/*.js; do node --check --input-type=module < $$file || exit 1; done

soak: build target/.clients ## half an hour of mixed traffic with faults, then a thousand streams of a minute
	SOAK_SECONDS=1800 SOAK_STREAMS=1000 SOAK_STREAM_SECONDS=60 target/venv/bin/python -m pytest -q -s tests/clients/test_soak.py

demo: build ## the same with a mock upstream and made-up keys: no account needed
	scripts/demo.sh

bench: build ## how fast it is beside a component that only forwards (some minutes)
	scripts/build-component.sh keystorm-floor
	target/release/bench $(AS_SPIN)

bench-peers: build ## the same, and nginx, Portkey and LiteLLM (installs them)
	scripts/setup-peers.sh
	scripts/build-component.sh keystorm-floor
	target/release/bench --peers $(AS_SPIN)

clean: ## remove what was built
	cargo clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10
