# Two commands do it all: `make run` and `make test`. Both set up what they need.
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.stamp
DATASET ?= thermal
ROOT ?=
RUNS ?=
DEVICE ?= auto
JOBS ?= 2

# what a step of a training frees is kept for the next one, not given back to the system: it takes less time
export MALLOC_MMAP_THRESHOLD_ := 1000000000
export MALLOC_TRIM_THRESHOLD_ := 4000000000
export NUMBA_CACHE_DIR := $(CURDIR)/data/cache/numba
export PATH := $(BIN):$(PATH)

.PHONY: help run test check lab html app render readme bench gpu search growth study options clean

help: ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(STAMP): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "sa_lab needs Python 3.11 or newer, this is %d.%d; choose one: make PYTHON=python3.12" % v[:2])'
	echo "The packages are installed into $(VENV): about 7 GB, some minutes."
	# at a terminal pip shows how far it is
	if test -t 1; then quiet=""; else quiet=--quiet; fi
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	# the pip of an older Python (23.0 with Debian's 3.11) never finishes resolving the exact versions
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	# the exact versions were resolved on Python 3.11; elsewhere the lower bounds of pyproject.toml hold
	if $(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then pins="-c .ci/constraints.txt"; else pins=""; fi
	$(VENV)/bin/python -m pip install $$quiet --disable-pip-version-check $$pins -e '.[notebooks,offline,test]'
	touch $(STAMP)

run: $(STAMP) ## the main job: train softmax and SA-Softmax, evaluate, analyse, execute the course (DATASET=roadscene ROOT=folder)
	sa-lab course --dataset $(DATASET) --root '$(ROOT)'

check: $(STAMP) ## lint, types, imports, unit tests
	ruff check . && ruff format --check .
	mypy sa_lab
	lint-imports
	pytest -q -m 'not slow' -n 2 --dist loadfile

test: $(STAMP) ## everything that CI checks
	@echo "Checks style, types and imports, then runs all tests (trainings and the course in a browser among them) and every"
	echo "cell of the chapters; about twenty-five minutes on two cores. Tests that need a GPU are skipped where there is none."
	ruff check . && ruff format --check .
	mypy sa_lab
	lint-imports
	# the tests write thousands of files and wait until a disk has each: in memory, where it has room, that takes no time
	place="$${TMPDIR:-/tmp}"
	if python -c 'import os; from psutil import disk_usage, virtual_memory; \
		free = min(virtual_memory().available, disk_usage("/dev/shm").free); \
		assert free > 12e9 and not os.statvfs("/dev/shm").f_flag & os.ST_NOEXEC' 2>/dev/null; then place=/dev/shm; fi
	TMPDIR="$$(mktemp -d "$$place/sa-lab-XXXXXX")"
	export TMPDIR SA_LAB_TEST_HOME="$$TMPDIR/home"
	trap 'rm -rf "$$TMPDIR"' EXIT
	# the chapters under papermill train anew in a folder of their own; nbval then reads the runs they leave
	mkdir "$$SA_LAB_TEST_HOME"
	cp -r data/results "$$SA_LAB_TEST_HOME/"
	pytest -q -n 2 --dist loadfile --no-loadscope-reorder
	SA_LAB_HOME=$$SA_LAB_TEST_HOME OMP_NUM_THREADS=1 pytest -q -p no:cacheprovider -n 2 --dist loadfile \
		--nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg --nbval-cell-timeout=900 notebooks
	echo "All checks passed."

lab: $(STAMP) ## JupyterLab on this machine's loopback, with its token
	sa-lab lab

html: $(STAMP) ## the series as a static site in data/site
	python -c 'from pathlib import Path; from sa_lab.course import site; print(site.export(Path("data/site"))[0])'

app: $(STAMP) ## playground and ranking browser as a page on loopback (RUNS='folder folder')
	sa-lab app $(RUNS)

render: $(STAMP) ## execute and clean the committed notebooks
	python -c 'from sa_lab.course import chapters; chapters.render()'

study: $(STAMP) ## all studies on drawn people, many hours; DATASET=roadscene ROOT=folder: the paper's four there
	@main="sa-lab study tiny --jobs 2 --variants softmax complete"
	if test -n '$(ROOT)'; then
		sa-lab study tiny --jobs 2 --data.dataset $(DATASET) --data.root '$(ROOT)'
		exit
	fi
	# the paper's four; both main losses with ten seeds, and on the other set; SA-Softmax with one piece changed; all tuned
	sa-lab study tiny --jobs 2
	$$main --seeds 0 1 2 3 4 5 6 7 8 9 --out data/results/main-thermal.json
	$$main --data.dataset synthetic --out data/results/main-synthetic.json
	sa-lab study tiny --jobs 2 --variants softmax complete synchronous own_target running_mean no_rival no_mask mask_5 \
		mask_500 no_absolute --out data/results/pieces-thermal.json
	python -c 'from sa_lab.config import ExperimentConfig; from sa_lab.course import parting; parting.write(ExperimentConfig(), jobs=2)'
	for set in synthetic thermal; do sa-lab study tiny --tuned --jobs 2 --data.dataset $$set; done
	# on a narrower processor, and over the dials
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 SA_LAB_HOME=data/cache/avx2 $$main --seeds 0 1 2 --out data/results/avx2-thermal.json
	python -c 'from sa_lab.config import ExperimentConfig; from sa_lab.course import surface; surface.write(ExperimentConfig(), jobs=2)'

growth: $(STAMP) ## longer trainings, more people, other batches: hours, or ten minutes with DEVICE=cuda JOBS=12
	sweep="sa-lab sweep tiny --loss softmax complete --seeds 0 1 2 --jobs $(JOBS) --train.device $(DEVICE)"
	$$sweep --over train.steps-per-epoch 320 160 80 40 --out data/results/longer-thermal
	$$sweep --over data.train-ids 100 200 400 --out data/results/people-thermal
	sa-lab study tiny --jobs $(JOBS) --variants softmax complete triplet hetero_center_triplet --seeds 0 1 2 \
		--train.ids-per-batch 8 --train.images-per-id 4 --train.device $(DEVICE) --out data/results/batches-thermal.json

search: $(STAMP) ## learning rates for both losses, tried on validation identities alone; DEVICE=cuda JOBS=12 on a GPU
	sa-lab sweep tiny --validation --loss softmax complete --seeds 0 1 2 3 4 --jobs $(JOBS) --train.device $(DEVICE) \
		--over train.backbone-lr 1e-3 2e-3 4e-3 --out data/results/search-rates

options: $(STAMP) ## what reuse_features costs in quality: the complete loss, five seeds each
	study="sa-lab study tiny --variants complete --jobs 2"
	$$study --out data/results/option-exact.json
	$$study --train.reuse-features --out data/results/option-reuse_features.json

readme: $(STAMP) ## put the numbers of data/results into README.md
	python tests/readme.py

bench: $(STAMP) ## time the library against the field's usual way
	PYTHONPATH=tests python -m benchmarks --device cpu
	OMP_NUM_THREADS=$$(getconf _NPROCESSORS_ONLN) SA_LAB_BENCH=data/results/bench-widgets.json pytest -q tests/test_course_browser.py -k playground

gpu: $(STAMP) ## checks, benchmark and a study on a GPU; called again, it goes on
	python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "no CUDA device here: nothing is checked or timed")'
	pytest -q tests/test_losses.py tests/test_metrics.py tests/test_model.py tests/test_train.py tests/test_transforms.py
	# the preset small, but for its backbone: weights of ResNet-18 are a download, MobileNet V2's come with an extra
	sa-lab study small --seeds 0 1 2 --jobs 6 --data.dataset synthetic --model.backbone mobilenet_v2 --model.weights offline \
		--train.device cuda --out data/results/study-gpu.json
	PYTHONPATH=tests python -m benchmarks --device cuda

clean: ## remove runs, caches and the environment
	rm -rf $(VENV) data/prepared data/runs data/executed data/cache data/site data/screenshots
