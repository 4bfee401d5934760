# The README's two commands, and two more. Each starts from nothing: it makes .venv, installs, and runs.
.PHONY: audit demo fuzz test test-ray

demo:
	@.ci/setup server,refine
	@.venv/bin/editcritic demo --out demo-out

test:
	@.ci/setup dev
	@.ci/check
	@.ci/test

# All that runs on Ray, the tests that take minutes too.
test-ray:
	@.ci/setup dev
	@EDITCRITIC_TESTS_LONG=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m ray tests/server

# Mutated pictures, requests and streams against the code that reads them; what reaches new code is kept.
COUNT ?= 10000
fuzz:
	@.ci/setup dev
	@.venv/bin/python -m tests.server.fuzzing --count $(COUNT)

# Known vulnerabilities in the pinned versions; needs a network, and says so without one.
audit:
	@.ci/audit
