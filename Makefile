# The README's two commands. Each starts from nothing: it makes .venv, installs, and runs.
.PHONY: demo test

demo:
	@.ci/setup server,refine
	@.venv/bin/editcritic demo --out demo-out

test:
	@.ci/setup dev
	@.ci/check
	@.ci/test
