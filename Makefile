# Thin: each target is one command. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-hosts test-job test-deploy hosts long gpu lint bench lock clean
BIN := .venv/bin

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## Java, the virtual environment, the locked packages
	@bash deploy/setup/bootstrap.sh

demo: setup ## the whole story on this machine, on real reviews
	@$(BIN)/sparkbundle demo

test: setup lint ## lint, then the tests: job and deploy at the same time, then on real hosts
	@$(MAKE) --no-print-directory --jobs=2 test-job test-deploy
	@$(MAKE) --no-print-directory test-hosts WHICH="not long"
	@echo "left out: tests that take minutes each (marked long): make long has them"

# Each has clusters of its own.
test-job:
	@$(BIN)/pytest -p no:cacheprovider -m "not long" tests/job

test-deploy:
	@$(BIN)/pytest -p no:cacheprovider -m "not long" tests/deploy tests/test_demo.py tests/test_documents.py

# Alone, because it needs both cores. Its hosts are machines that Vagrant makes here. Where that
# cannot be, it is left out with a line that says why; with CI set, that is an error.
hosts: setup test-hosts ## every test on real hosts: LXC machines that Vagrant makes here, as root

long: setup ## the tests that make test leaves out: faults and places that take minutes each
	@$(BIN)/pytest -p no:cacheprovider -m long tests

gpu: setup ## the tests that need a real NVIDIA card
	@$(BIN)/pytest -p no:cacheprovider -m gpu tests

test-hosts:
	@$(BIN)/pytest -p no:cacheprovider tests/cluster $(if $(WHICH),-m "$(WHICH)")

lint: setup ## ruff, mypy and ansible-lint
	@$(BIN)/ruff check deploy job tests
	@$(BIN)/ruff format --check deploy job tests
	@$(BIN)/mypy
	@$(BIN)/ansible-lint --offline --profile production roles deploy/playbooks

bench: setup ## the benchmarks, with what they are compared to
	@$(BIN)/python -m tests.bench

lock: setup ## resolve the dependencies anew
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python deploy/setup/lock.py

clean: ## remove what the other targets made in this folder
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info job/*.egg-info deploy/*.egg-info
