# make              set up .venv and tag music: MUSIC=path/to/music, by default a free album
# make test         set up .venv and run all checks and the fast tests
# make help         everything else
#
# Needs make, a Debian-like system, PyPI and apt; python3 and its venv are installed if they are missing and you are root.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := tag
.PHONY: tag setup test test-all check programs fuzz bench zoo ablation figure ensembles few_labels calibration students catalogue music teachers targets scores sources model evaluation fifty web clean help

PYTHON ?= python3
READY := .venv/.ready
PAGES := similarity zoo ablation figure_1 ensembles few_labels calibration students model people teachers outputs measures speed embedding copies fifty decisions rules suggest catalogue
BENCHMARKS ?= $(filter-out $(PAGES:%=benchmarks/%.py), $(wildcard benchmarks/*.py))
COUNT ?= 5000
ALBUM := singularity-music
NOTICE := .cache/music/$(ALBUM)/usr/share/doc/$(ALBUM)/copyright
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Tests on real data use this folder, unless MOODFIELD_DATA is set; without it they are skipped.
MOODFIELD_DATA ?= $(realpath ../shared/data)
export MOODFIELD_DATA

# What to tag: a file or a folder. It is passed in the environment, so spaces and quotes in it are safe.
MUSIC ?=
export MUSIC

tag: $(READY) $(if $(strip $(MUSIC)),,$(NOTICE))  ## tag MUSIC (or a free album): a table here, details in report.html
ifeq ($(strip $(MUSIC)),)
	@echo "Music of Endgame: Singularity, (C) Max McCracken, CC-BY-SA-3.0; see $(NOTICE)"
	.venv/bin/moodfield tag ".cache/music/$(ALBUM)" --report report.html
else
	.venv/bin/moodfield tag "$$MUSIC" --report report.html
endif

setup: $(READY)  ## only set up .venv

# The environment. torch is installed first and by itself, at the release in constraints.txt: its CPU build needs no CUDA packages.
$(READY): pyproject.toml constraints.txt
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv; \
	  else \
	    echo "python3 with venv is missing: as root, apt-get install python3 python3-venv" >&2; exit 1; \
	  fi; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  f"moodfield needs Python 3.11 or later; $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.11")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install "$$(grep '^torch==' constraints.txt)"
	.venv/bin/python -m pip install -c constraints.txt -e ".[train,learn,library,export,serve,tags,codecs,watch,cluster,dev]"
	@touch $@

# The checks and the fast tests; `test-all` adds the slow ones. The time that is reported leaves out what is installed.
# Tests of pages need a browser, those of privacy strace, those of file tags ffmpeg; without them they are skipped.
# Byte code is kept also where the environment forbids it: every worker and child process would compile all sources.
PYTEST = env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $$(nproc) --dist worksteal
test: $(READY) programs check  ## formatting, lint, types, layers, fast tests: minutes
	@began=$$(date +%s); $(PYTEST) -m "not slow"; \
	echo "the tests took $$(( $$(date +%s) - began )) s, without set-up and downloads; make test-all adds the slow ones"

test-all: $(READY) programs check  ## the same with the slow tests
	$(PYTEST)

check: $(READY)  ## formatting, lint, types, layers: under a minute
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

programs:
	@{ command -v chromium && command -v strace && command -v ffmpeg; } >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update && \
	  apt-get install --yes --no-install-recommends chromium strace ffmpeg; \
	} || echo "no chromium, strace or ffmpeg: some tests are skipped; as root, apt-get install chromium strace ffmpeg" >&2

fuzz: $(READY)  ## COUNT (5000) damaged files of every kind, each read in a child process: minutes
	.venv/bin/python benchmarks/fuzz.py --count $(COUNT)

bench: $(READY)  ## every script in benchmarks/, one after the other, into benchmarks/results.md
	@{ echo "# Measurements"; echo; echo "By \`make bench\`, one script for each section, on $$(nproc) cores."; } > benchmarks/results.part
	@for script in $(BENCHMARKS); do \
	  echo "== $$script" >&2; \
	  { echo; echo "<!-- $$script -->"; .venv/bin/python -W ignore "$$script" || echo "$$script failed."; } \
	    >> benchmarks/results.part; \
	done
	@mv benchmarks/results.part benchmarks/results.md

figure: $(READY)  ## Figure 1 on Emotify: hours, resumes; writes docs/figure-1.md
	.venv/bin/python -W ignore benchmarks/figure_1.py > docs/figure-1.part
	@mv docs/figure-1.part docs/figure-1.md

zoo: $(READY)  ## every network on Emotify, five folds each: hours, resumes; writes docs/zoo.md
	.venv/bin/python -W ignore benchmarks/zoo.py > docs/zoo.part
	@mv docs/zoo.part docs/zoo.md

ablation: $(READY)  ## ablation of the recipe on Emotify: hours, resumes; writes docs/ablation.md
	.venv/bin/python -W ignore benchmarks/ablation.py > docs/ablation.part
	@mv docs/ablation.part docs/ablation.md

few_labels: $(READY)  ## learning, fine-tuning and training from scratch on Emotify: hours, resumes; writes docs/few_labels.md
	.venv/bin/python -W ignore benchmarks/few_labels.py > docs/few_labels.part
	@mv docs/few_labels.part docs/few_labels.md

ensembles: $(READY)  ## ensembles of public systems on the test split: minutes; writes docs/ensembles.md
	.venv/bin/python -W ignore benchmarks/ensembles.py > docs/ensembles.part
	@mv docs/ensembles.part docs/ensembles.md

students: $(READY) music  ## variants of the bundled model, one change each: hours, resumes; writes docs/students.md
	.venv/bin/python -W ignore benchmarks/students.py > docs/students.part
	@mv docs/students.part docs/students.md

catalogue: $(READY) music  ## cost of a catalogue by processes and on Ray: an hour; writes docs/catalogue_costs.part
	.venv/bin/python -W ignore benchmarks/catalogue.py --plot docs/pictures/catalogue-memory.png > docs/catalogue_costs.part

calibration: $(READY)  ## calibrations of the published baseline: a minute; writes docs/calibration.md
	.venv/bin/python -W ignore benchmarks/calibration.py --plot docs/calibration.png > docs/calibration.part
	@mv docs/calibration.part docs/calibration.md

# Training music, and the album that `make` tags: whatever is missing or wrong is brought and checked, the rest is kept.
FETCH = .venv/bin/python music/fetch.py
$(NOTICE): | $(READY)
	$(FETCH) $(ALBUM)

music: $(READY) scores  ## download the free training music of music/manifest.tsv, or check it; it resumes
	$(FETCH)

# What plays scores. Without it fetch.py leaves them out, with a message.
SCORE_PROGRAMS := lilypond musescore3 fluidsynth ffmpeg
SOUNDFONTS := /usr/share/sounds/sf2/FluidR3_GM.sf2 /usr/share/sounds/sf3/MuseScore_General.sf3
scores:
	@( for name in $(SCORE_PROGRAMS); do command -v $$name || exit 1; done; ls $(SOUNDFONTS) ) >/dev/null 2>&1 || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update && apt-get install --yes --no-install-recommends \
	    $(SCORE_PROGRAMS) fluid-soundfont-gm musescore-general-soundfont; \
	} || true

# The teachers: their outputs for the music, the ensemble, and the page about them. Both resume; from nothing, an hour.
CHECKPOINTS ?= $(MOODFIELD_DATA)
TEACHERS := .cache/teachers
targets: $(READY) music  ## training targets: outputs of all teachers in CHECKPOINTS for the music, and their ensemble
	@mkdir -p $(TEACHERS)
	.venv/bin/moodfield distill bridge "$(MOODFIELD_DATA)/mtg-jamendo" -o $(TEACHERS)/bridge.json --predictions "$(PREDICTIONS)"
	.venv/bin/moodfield distill targets music/manifest.tsv --checkpoints "$(CHECKPOINTS)" --bridge $(TEACHERS)/bridge.json \
	  --predictions "$(PREDICTIONS)" --audio .cache/music -o $(TEACHERS)/ensemble.json

teachers: $(READY) music  ## teachers and targets, compared with people and by kind of music; writes docs/teachers.md
	.venv/bin/python -W ignore benchmarks/teachers.py --plot docs/teachers.png > docs/teachers.part
	@mv docs/teachers.part docs/teachers.md

# The bundled model: a run without the held-out packages, evaluated on them, and its card with the results. It resumes.
PREDICTIONS := $(MOODFIELD_DATA)/mediaeval2019/baseline/vggish_predictions.npy
SETTINGS ?=
DISTILL = .venv/bin/moodfield distill train music/manifest.tsv --ensemble $(TEACHERS)/ensemble.json --checkpoints "$(CHECKPOINTS)" \
  --audio .cache/music --degrade --predictions "$(PREDICTIONS)" --splits "$(MOODFIELD_DATA)/mtg-jamendo" --card-text music/card_text.toml $(SETTINGS)
sources:
	@for file in "$(PREDICTIONS)" "$(MOODFIELD_DATA)"/mtg-jamendo/autotagging_moodtheme-{train,test}.tsv; do test -f "$$file" || \
	  { echo "$$file calibrates scores: make model MOODFIELD_DATA=FOLDER that has it (see docs/train.md)" >&2; exit 1; }; done
	@test -d "$(MOODFIELD_DATA)/emotify" || { echo "Emotify evaluates the model: make model MOODFIELD_DATA=FOLDER that has emotify/" >&2; exit 1; }
model: sources targets  ## train the bundled model, hours; CHECKPOINTS=FOLDER of the teachers' published checkpoints
	$(DISTILL) -o runs/default
	$(MAKE) evaluation MODELS="'the model=runs/default/best'" RUN=runs/default
	$(DISTILL) -o runs/default --appendix docs/model.md
	.venv/bin/moodfield models runs/default/best --verify
	rm -rf src/moodfield/pretrained/default.part && cp -r runs/default/best src/moodfield/pretrained/default.part
	rm -rf src/moodfield/pretrained/default && mv src/moodfield/pretrained/default.part src/moodfield/pretrained/default
	.venv/bin/moodfield models default --verify

# Of any models: MODELS="'the model=default' 'the other=FOLDER'"; the first is described in detail, and its RUN has a learning curve.
MODELS ?= 'the model=default'
RUN ?=
EVALUATE = .venv/bin/python -W ignore benchmarks
evaluation: $(READY) music  ## compare MODELS with the ensemble of `make targets` and with people: minutes; writes docs/model.md
	@{ $(EVALUATE)/model.py $(MODELS) $(if $(RUN),--run "$(RUN)"); \
	  $(EVALUATE)/embedding.py $(MODELS); $(EVALUATE)/copies.py $(MODELS); } > docs/model.part
	@mv docs/model.part docs/model.md

# DECIDING=FOLDER of a model, beside the ensemble; empty for the ensemble alone. A model tags all of the music first.
DECIDING ?= default
deciding: $(READY) music  ## rules for decisions, compared by people and by counts: minutes; writes docs/deciding.md
	$(EVALUATE)/decisions.py $(if $(DECIDING),--model "$(DECIDING)") > docs/deciding.part
	@mv docs/deciding.part docs/deciding.md

fifty: $(READY) music  ## tags of fifty tracks, with verdicts of benchmarks/fifty.tsv; writes docs/fifty.md
	$(EVALUATE)/fifty.py --update > docs/fifty.part
	@mv docs/fifty.part docs/fifty.md

web:  ## the pages of `moodfield serve` and `moodfield web`, built from web/ into src/moodfield; needs Node.js 20 or later
	cd web && npm ci --no-audit --no-fund && npm run build && npm run build-browser

clean:  ## remove everything that was built; downloads (.cache) and runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist report.html web/node_modules
	find src tests benchmarks music -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 16
