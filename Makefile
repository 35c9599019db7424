# The front door. `make up` and `make test` are all a newcomer needs; see README.md.
SHELL := /bin/bash
BUILD := build/release
NAME ?= basalt
NODES ?= 1
IMAGES ?= build

.PHONY: up down test bench format setup build images clean

setup:
	@tools/setup

build: setup
	@cmake --preset release > /dev/null
	@cmake --build $(BUILD) --target programs

images: setup
	@distribution/build

# Brings up the local management cluster and the control plane of examples/.
up: build
	@$(BUILD)/bin/basalt up --name $(NAME) --nodes $(NODES) --images $(IMAGES)
	@tools/demo $(NAME)

down: setup
	@if [ -x $(BUILD)/bin/basalt ]; then $(BUILD)/bin/basalt down --name $(NAME); fi

test: setup
	@tests/run

# What stands beside the code; ratios of whole control planes are to come (docs/design/roadmap.md).
bench: setup
	@cmake --preset release > /dev/null
	@cmake --build $(BUILD)
	@for bench in $(BUILD)/bench_bin/*; do echo "== $$(basename $$bench)"; $$bench || exit 1; done

format: setup
	@git ls-files 'src/*.h' 'src/*.cc' 'tests/*.h' 'tests/*.cc' | xargs clang-format-19 -i

clean:
	@rm -rf build
