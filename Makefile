# Thin: each target is one command. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo quick test test-job test-deploy ready-hosts test-hosts hosts long gpu lint bench lock clean
BIN := .venv/bin
TESTS := $(BIN)/pytest -p no:cacheprovider

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## Java, the virtual environment, the locked packages
	@bash deploy/setup/bootstrap.sh

demo: setup ## the whole story on this machine, on real reviews
	@$(BIN)/sparkbundle demo

quick: setup lint ## lint, and the tests that need no cluster: minutes
	@$(TESTS) --lane quick -m "not long and not cluster" tests

test: setup ## what CI runs: lint, all tests but those of minutes each, real clusters and hosts included
	@rm -rf tests/.durations
	@$(MAKE) --no-print-directory --jobs lint test-job test-deploy ready-hosts
	@$(MAKE) --no-print-directory test-hosts WHICH="not long"
	@$(BIN)/python -m tests.durations
	@echo "left out: tests that take minutes each (marked long): make long has them"

# Each has clusters of its own.
test-job:
	@$(TESTS) --lane job -m "not long" tests/job

test-deploy:
	@$(TESTS) --lane deploy -m "not long" tests/deploy tests/test_*.py

# The machines are made, and deployed to, while the other lanes run; what that says is in a log.
ready-hosts:
	@$(BIN)/python -m tests.cluster.prepare

# Alone, because its hosts need both cores. They are machines that Vagrant makes here. Where that
# cannot be, it is left out with a line that says why; with CI set, that is an error.
hosts: setup test-hosts ## every test on real hosts: LXC machines that Vagrant makes here, as root

long: setup ## the tests that make test leaves out: faults and soaks that take minutes each
	@$(TESTS) --lane long -m long tests

gpu: setup ## the tests that need a real NVIDIA card
	@$(TESTS) -m gpu tests

test-hosts:
	@$(TESTS) --lane hosts tests/cluster $(if $(WHICH),-m "$(WHICH)")

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
