# `make help` lists the targets. Every target installs what it needs into .venv first; see scripts/install.

PYTHON ?= python3
RUN := .venv/bin/python -m
CORES := $(shell nproc 2>/dev/null || echo 2)
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(CORES)

.DEFAULT_GOAL := help
.PHONY: install check runner sanitize test app aar demo clean help

install: ## create .venv with everything in it (about 4 minutes; nothing to do when it is up to date)
	@PYTHON="$(PYTHON)" scripts/install

check: install ## ruff, clang-format and mypy
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	find android_runner -name '*.cpp' -o -name '*.h' | xargs .venv/bin/clang-format --dry-run --Werror
	$(RUN) mypy
	$(RUN) mypy tests/users_script.py
	MYPYPATH=tests $(RUN) mypy -p virtual_phone

runner: install ## build the runner for this computer and for arm64 phones, and run the tests of both
	scripts/onnxruntime_headers || echo "make: the runner is built without ONNX Runtime" >&2
	scripts/build_runner host
	cmake --build build/runner/host
	ctest --test-dir build/runner/host --output-on-failure --parallel 2
	scripts/build_runner linux-arm64 -DRUNNER_TESTS=ON
	cmake --build build/runner/linux-arm64
	ctest --test-dir build/runner/linux-arm64 --output-on-failure --parallel 2

SANITIZER ?= thread
# Tests of many bytes rather than of threads: `make runner` runs them.
LARGE := JobsTest.KeepsFewerWhenTheyAreLarge:ServerTest.TakesALineOf16MiBAndNoMore
sanitize: ## loader, pager and jobs under ThreadSanitizer; make sanitize SANITIZER=sanitize is Address and UndefinedBehavior
	cd android_runner && cmake --preset $(SANITIZER)
	cmake --build build/runner/$(SANITIZER) --target loader-tests queue-tests
	printf 'build/runner/$(SANITIZER)/tests/%s-tests\n' loader queue | xargs -P 2 -I TESTS \
	    sh -c 'TESTS --gtest_brief=1 --gtest_filter=-$(LARGE) >TESTS.log 2>&1 || { cat TESTS.log; exit 1; }'

# Some tests wait for other processes: of one more than there are cores, a core is seldom idle.
PROCESSES := $(shell echo $$(($(CORES) < 4 ? $(CORES) + 1 : 4)))
test: install ## every test; some of them: make test ARGS="tests/graph/test_graph.py -k window"
	OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses=$(PROCESSES) --dist=loadfile --timeout=600 --durations=10 $(ARGS)

app: install ## the Kotlin library for apps and its tests (docs/app.md); says what it needs
	@command -v mvn >/dev/null && command -v javac >/dev/null || \
	    { echo "make: Maven or a JDK was not found. Install them: apt-get update && apt-get install -y maven openjdk-17-jdk-headless" >&2; exit 1; }
	scripts/ktlint
	OMP_NUM_THREADS=1 .venv/bin/python tests/app_packs.py build/app/packs
	OMP_NUM_THREADS=1 .venv/bin/python tests/app_bundle.py build/app/bundle
	scripts/executorch_host build/app/libexecutorch_host.so || echo "make: the tests of ExecuTorch in Kotlin are skipped" >&2
	mvn --quiet --batch-mode --file android_runner/android/pom.xml verify

aar: app ## an AAR and a Maven repository of the Kotlin library, into build/aar, and whether the engines' own take pages of 16 KB
	mvn --quiet --batch-mode --file android_runner/android/pom.xml -Pjavadoc -DskipTests package
	scripts/aar
	scripts/engine_page_sizes

demo: install ## the whole job on EfficientNet-Lite0, into demo/; on your own images: make demo DATA=folder
	$(RUN) benchmarks.demo --out demo $(if $(DATA),--data "$(DATA)")

clean: ## remove .venv, build products and caches; demo/ stays
	rm -rf .venv build dist android_runner/android/*/target android_runner/android/samples/*/target *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
