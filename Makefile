# The README's two commands, and three more. Each starts from nothing: it makes .venv, installs, and runs.
.PHONY: audit demo fuzz test test-ray
.PHONY: audit demo e2e-gimp fuzz test
.PHONY: audit demo e2e-studio fuzz test
# The README's two commands, and two more. Each starts from nothing: it makes .venv, installs, and runs.
.PHONY: audit demo e2e-krita fuzz test
.PHONY: audit comfyui-examples demo e2e-comfyui fuzz test

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

# A real GIMP 2.10, without windows, driven by editcritic gimp; skips where there is none.
e2e-gimp:
	@.ci/setup dev
	@.venv/bin/python -m pytest tests/e2e/test_gimp.py -q
# Whole journeys through the studio in a real Chromium (apt-get install chromium); screenshots in e2e-out/studio.
e2e-studio:
	@.ci/setup dev
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check playwright axe-playwright-python
	@OMP_NUM_THREADS=2 .venv/bin/python -m pytest tests/e2e/test_studio.py -m studio

# Known vulnerabilities in the pinned versions; needs a network, and says so without one.
audit:
	@.ci/audit

# The docker in the real Krita, on a display of its own: needs krita, python3-pyqt5, xvfb and imagemagick.
e2e-krita:
	@.ci/setup dev
	@EDITCRITIC_E2E_KRITA=e2e-krita .venv/bin/python -m pytest tests/e2e/test_krita.py -m krita -v
	@echo "screenshots, the .kra and the reports are in e2e-krita/"
# The nodes in a real ComfyUI: COMFYUI is its folder, COMFYUI_PYTHON its interpreter. Pictures land in e2e-out/comfyui.
e2e-comfyui:
	@test -n "$(COMFYUI)" || { echo "usage: make e2e-comfyui COMFYUI=/path/to/ComfyUI"; exit 2; }
	@.ci/setup dev,e2e
	@COMFYUI="$(COMFYUI)" COMFYUI_PYTHON="$(COMFYUI_PYTHON)" .venv/bin/python -m pytest -m comfyui tests/e2e/test_comfyui.py

# Example workflows of the node pack and docs/comfyui.png, made by ComfyUI's own page in a browser (CHROMIUM).
comfyui-examples:
	@test -n "$(COMFYUI)" || { echo "usage: make comfyui-examples COMFYUI=/path/to/ComfyUI"; exit 2; }
	@.ci/setup dev,e2e
	@COMFYUI="$(COMFYUI)" COMFYUI_PYTHON="$(COMFYUI_PYTHON)" .venv/bin/python -m tests.e2e.comfyui_examples
