# The front door. `make up` and `make test` are all a newcomer needs; see README.md.
SHELL := /bin/bash
BUILD := build/release
NAME ?= basalt
# As many as the cluster has, or one.
NODES ?=
IMAGES ?= build
# HOST:PORT that IMAGES=pull takes them from.
IMAGES_FROM ?=

.PHONY: up down test bench lint format setup build images clean

setup:
	@tools/setup

build: setup
	@cmake --preset release > /dev/null
	@cmake --build $(BUILD) --target programs

images: setup
	@distribution/build

# Brings up the local management cluster and the control plane of examples/.
up: build
	@$(BUILD)/bin/basalt up --name $(NAME) $(if $(NODES),--nodes $(NODES)) --images $(IMAGES) $(if $(IMAGES_FROM),--images-from $(IMAGES_FROM))
	@tools/demo $(NAME)

down: setup
	@[ -x $(BUILD)/bin/basalt ] || $(MAKE) --no-print-directory build
	@$(BUILD)/bin/basalt down --name $(NAME)

test: setup
	@tests/run

# Parts beside the code, then ratios against what runs beside it in the same run: docs/design/benchmarks.md.
bench: build images
	@cmake --build $(BUILD) --target benches
	@tests/bench/run

# Needs about twenty minutes of a core; not part of `make test`, whose format check is the same.
lint: build
	@cmake --build $(BUILD) --target benches
	@tools/lint

format: setup
	@git ls-files -z '*.h' '*.cc' | xargs -0 clang-format-19 -i

clean:
	@rm -rf build
