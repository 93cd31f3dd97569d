# All commands for developers. Tools are built into .bin from tools/go.mod, which pins
# their versions.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps of a test run share two ports and all cores.
.NOTPARALLEL:

BIN := .bin
export PATH := $(abspath $(BIN)):$(PATH)
export CGO_ENABLED ?= 1
# Use the toolchain that go.mod names, even if Go is configured to use only its own.
export GOTOOLCHAIN := auto

tool_packages := \
	github.com/bufbuild/buf/cmd/buf \
	github.com/golangci/golangci-lint/v2/cmd/golangci-lint \
	github.com/fullstorydev/grpcurl/cmd/grpcurl \
	github.com/grpc-ecosystem/grpc-health-probe \
	github.com/rhysd/actionlint/cmd/actionlint \
	github.com/sudorandom/protoc-gen-connect-openapi \
	golang.org/x/perf/cmd/benchstat \
	golang.org/x/vuln/cmd/govulncheck

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

$(BIN)/%: tools/go.mod tools/go.sum
	@mkdir -p $(BIN)
	go build -modfile=tools/go.mod -o $@ $(filter %/$*,$(tool_packages))

# The test suites of others, which are a part of the tests, and the contract of the service
# that connectconformance calls.
suites := $(BIN)/connectconformance $(BIN)/h2spec $(BIN)/conformance.binpb
suite_packages := connectrpc.com/conformance/cmd/connectconformance github.com/summerwind/h2spec/cmd/h2spec
.PHONY: suites
suites: $(suites) ## Build connectconformance and h2spec into .bin, which some tests need.
$(BIN)/connectconformance $(BIN)/h2spec: $(BIN)/%: tools/conformance/go.mod tools/conformance/go.sum
	@mkdir -p $(BIN)
	cd tools/conformance && go build -o $(abspath $@) $(filter %/$*,$(suite_packages))
$(BIN)/conformance.binpb: $(BIN)/buf tools/conformance/go.mod
	cd tools/conformance && go mod download connectrpc.com/conformance
	buf build "$$(cd tools/conformance && go list -m -f '{{.Dir}}' connectrpc.com/conformance)/proto" -o $@

.PHONY: run
run: ## Run the server. MODEL=yunet runs it with that model, and ARGS="--help" lists its flags.
	go run ./cmd/server $(if $(MODEL),--model $(MODEL)) $(ARGS)

# EMBED=yunet puts that model into the server. It comes from the cache of models, from the
# mirror in MIEN_MODEL_MIRROR or from its publisher, and is verified.
EMBED ?=
$(if $(filter-out yunet,$(EMBED)),$(error EMBED=$(EMBED): only yunet can be embedded))
embed_tags = $(if $(EMBED),-tags embed_$(EMBED))
embedded = $(if $(EMBED),cmd/server/embedded/$(EMBED).onnx)
cmd/server/embedded/%.onnx: always
	go run ./internal/embed $* $@
.PHONY: always
always:

.PHONY: build
build: $(BIN)/mien $(BIN)/mien-client ## Build the server into .bin/mien (static and stripped; CGO=1 adds ONNX Runtime, EMBED=yunet that model), and .bin/mien-client.
.PHONY: $(BIN)/mien $(BIN)/mien-client
$(BIN)/mien: $(embedded)
	@mkdir -p $(BIN)
	CGO_ENABLED=$(or $(CGO),0) go build -trimpath $(embed_tags) -ldflags='-s -w' -o $@ ./cmd/server
$(BIN)/mien-client:
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $@ ./cmd/client

# The files of a release: server and client for each platform, without cgo, and their checksums.
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
.PHONY: release
release: ## Build the server and the client for all platforms into dist/, with checksums.
	rm -rf dist && mkdir dist
	@for platform in $(PLATFORMS); do \
		export CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		suffix=; [ $$GOOS = windows ] && suffix=.exe; \
		for command in server:mien client:mien-client; do \
			file=dist/$${command#*:}-$$GOOS-$$GOARCH$$suffix; echo $$file; \
			go build -trimpath -ldflags='-s -w' -o $$file ./cmd/$${command%:*}; \
		done; \
	done
	cd dist && sha256sum -- * > SHA256SUMS

.PHONY: images
images: onnxruntime ## Build the container images into dist/images, with lists of what is in them. No container engine is needed.
	tools/images/build.sh

# ONNX Runtime's own package for Node.js contains its shared library.
library := libonnxruntime.so.1
.PHONY: onnxruntime
onnxruntime: $(BIN)/$(library) ## Download ONNX Runtime's library into .bin with npm.
$(BIN)/$(library): tools/onnxruntime/package-lock.json
	@mkdir -p $(BIN)
	cd tools/onnxruntime && npm ci --ignore-scripts --no-audit --no-fund
	cp tools/onnxruntime/node_modules/onnxruntime-node/bin/napi-v6/linux/$$(node -p process.arch)/$(library) $@
	rm -rf tools/onnxruntime/node_modules

.PHONY: test
test: setup lint vulncheck check-generated check-contract unit page-test memory accuracy soak-test container-test attack bench-test e2e ## Install what the tests need, and run all tests.

.PHONY: setup
setup: ## Install what the tests need: Debian packages, npm packages, jars.
	e2e/setup.sh

# The ten minutes that go test allows for each package are too short on a slow or busy
# machine.
PATIENCE = -timeout 30m

.PHONY: unit
unit: onnxruntime $(suites) ## Test every package, with the race detector.
	go test $(PATIENCE) -race -short ./...

.PHONY: page-test
page-test: ## Test the modules of the page in Node.js. "make e2e" tests the page in a browser.
	cd web && node --test test/*.test.js

# Without the race detector, which allocates memory itself.
.PHONY: memory
memory: ## Check that decoding and detecting take no more memory than is reserved for them, and that networks allocate nothing new.
	go test $(PATIENCE) -count=1 -run Memory ./nn ./face/mtcnn/area ./face/grid/resample ./photo ./face/luma ./face/pigo ./face/grid ./face/mtcnn ./service

# Without the race detector, with which these tests take minutes.
.PHONY: accuracy
accuracy: onnxruntime ## Check the accuracy of the models on ../shared/faces against the docs.
	go test $(PATIENCE) -run Accuracy ./face/... ./service

# The same is true for this test, which has ten thousand images.
.PHONY: soak-test
soak-test:
	go test $(PATIENCE) -count=1 -run '^TestSoak' ./cmd/server

# And for this one, which needs root to create memory cgroups. If it cannot create any,
# it is skipped, unless TEST_REQUIRE_CGROUP is set, as in CI.
.PHONY: container-test
container-test: ## Test a default server in small containers with the worst images.
	go test $(PATIENCE) -count=1 -run '^TestContainer' ./cmd/server

# A part of the cases, and all of h2spec, are among the unit tests.
.PHONY: conformance
conformance: $(suites) ## Run all conformance tests of Connect, and h2spec, against the server.
	go test $(PATIENCE) -count=1 -v -run '^(TestConformance|TestH2spec)$$' ./cmd/server -conformance

# Without the race detector, with which two of the attacks are skipped.
ATTACKS := TestRapidResets|TestHostileFiles|TestTinyFilesInBatches|TestManyTrailers|TestSettingsChangeUnderRequests|TestHostileClients|TestStalledBody|TestStalledStreamsDoNotBlock|TestWorst|TestBrokenFiles|TestRefusedUnread|TestSlowClients|TestSlowClientsThatReconnect|TestStreamsLeaveRoom|TestWaitingStreamsLeaveRoom|TestUnreadAnswers|TestNoUselessEviction|TestGarbageOfImages|TestImagesThatNeverFit
.PHONY: attack
attack: ## Attack the server on this machine: slow and endless bodies, bombs, hostile files, resets, settings, trailers.
	go test $(PATIENCE) -count=1 -v -run '^($(ATTACKS))$$' ./cmd/server ./service

# Go records no time and, with -trimpath, no folder in a binary. GOFLAGS leaves out the
# commit, which a copy of the source does not have.
.PHONY: reproducible
reproducible: ## Build the server and the client twice, in different folders without a cache, and compare the results.
	rm -rf $(BIN)/reproducible && mkdir -p $(BIN)/reproducible/{one,another/folder}
	for copy in one another/folder; do \
		git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c --ignore-failed-read | tar -x -C $(BIN)/reproducible/$$copy; \
		(cd $(BIN)/reproducible/$$copy && export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOCACHE="$$PWD/.cache" && \
			go build -trimpath -ldflags='-s -w' -o mien ./cmd/server && go build -trimpath -ldflags='-s -w' -o mien-client ./cmd/client); \
	done
	cd $(BIN)/reproducible/one && sha256sum mien mien-client > ../SHA256SUMS && cat ../SHA256SUMS
	cd $(BIN)/reproducible/another/folder && sha256sum -c ../../SHA256SUMS
	rm -rf $(BIN)/reproducible

# The benchmarks that are skipped take a minute, and only measure a running server or ONNX Runtime.
.PHONY: bench-test
bench-test: onnxruntime ## Run every benchmark once, and test the evaluation and the load tool with a few photographs, and the comparison with a few peers.
	go test $(PATIENCE) -run '^$$' -bench . -benchtime 1x -skip '^Benchmark(Keys|KeysNeighbor|Scale)$$|^BenchmarkAsONNXRuntime$$/^wider$$' ./...
	cd bench && go vet ./... && go test $(PATIENCE) -count=1 ./...
	bench/peers/setup.sh opencv
	cd bench/peers && go vet ./... && go test $(PATIENCE) -count=1 ./...

.PHONY: eval
eval: onnxruntime ## Evaluate every model, as in docs/accuracy.md. ARGS=--write updates that page.
	cd bench && go run . $(ARGS)

.PHONY: e2e
e2e: $(BIN)/buf $(BIN)/grpcurl $(BIN)/grpc-health-probe onnxruntime setup ## Test the binary with third-party clients, and run the examples of the docs.
	cd e2e && go vet ./... && go test -count=1 $(PATIENCE) ./...

.PHONY: page-screenshots
page-screenshots: setup ## Make the screenshots of docs/page.md again.
	cd e2e && go test -count=1 -run '^TestPageScreenshots$$' . -page-screenshots ../docs/page

.PHONY: load
load: ## Measure the server under overload, as in docs/performance.md. ARGS="--help" lists the options.
	cd bench && go run ./load $(ARGS)

# The machine must do nothing else. The environments are kept in .bin/peers.
.PHONY: peers
peers: ## Measure Mien beside the system that it replaces and other servers, as in docs/peers.md, which takes an hour. ARGS=--write updates that page.
	bench/peers/setup.sh
	cd bench/peers && go run . $(ARGS)

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (default 1m).
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' "$$package" | grep ^Fuzz || true); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(or $(FUZZTIME),1m) "$$package"; \
		done; \
	done

# A short form of both is a part of the tests.
.PHONY: soak
soak: ## Send 100,000 images through one stream and as many in batches, and keep a server at capacity for DURATION (default 1h); check that nothing grows, and that no answer is wrong.
	go test -count=1 -v -timeout 1h -run '^TestSoak$$' ./cmd/server -soak
	go test -count=1 -v -timeout 0 -run '^TestSoakAtCapacity$$' ./cmd/server -soak-time $(or $(DURATION),1h)

# Runs all benchmarks several times, instead of each benchmark several times in a row,
# so that other work of the machine affects all of them alike.
.PHONY: bench
bench: $(BIN)/benchstat onnxruntime ## Measure the speed compared with the library's and with ONNX Runtime's, as in docs/performance.md. RUNS=6 is the default.
	@rm -f $(BIN)/bench.txt
	@for run in $$(seq $(or $(RUNS),6)); do \
		go test -run '^$$' -bench '^BenchmarkLandmarks$$' -cpu 1 ./face/landmark; \
		go test -run '^$$' -bench '^BenchmarkScan$$' -cpu 1 ./face/pigo; \
		go test -run '^$$' -bench '^BenchmarkScan$$' -cpu 2 ./face/pigo; \
		go test -run '^$$' -bench '^BenchmarkRequest$$' -cpu 1 ./service; \
		go test -run '^$$' -bench '^BenchmarkThroughput$$' -cpu 2 -benchtime 3s ./service; \
		(cd e2e && go test -run '^$$' -bench '^BenchmarkStart$$' -cpu 2 -benchtime 5x .); \
		go test -run '^$$' -bench '^BenchmarkAsONNXRuntime$$' -cpu 1 -benchtime 20x ./nn; \
		go test -run '^$$' -bench '^BenchmarkTwin$$' -cpu 1 -benchtime 5x ./nn; \
		go test -run '^$$' -bench '^BenchmarkCores$$' -cpu 2 -benchtime 50x ./nn; \
		go test -run '^$$' -bench '^BenchmarkAsONNXRuntime$$' -cpu 1 -benchtime 1x ./face/mtcnn; \
		go test -run '^$$' -bench '^BenchmarkAsPigo$$' -cpu 1 -benchtime 20x ./face/mtcnn; \
	done | tee $(BIN)/bench.txt
	benchstat -col /by $(BIN)/bench.txt

.PHONY: calibrate
calibrate: ## Fit the constants in the models' calibration.go on ../shared/faces.
	go test -count=1 -v -run '^TestCalibrate$$' ./face/pigo ./face/grid -calibrate

# A step of its own in CI, because it needs root, and namespaces. Kubernetes and its add-ons
# are built once, and kept in ~/.cache/mien-test.
.PHONY: cluster-test
cluster-test: onnxruntime ## Test the container images, and deploy/ on a Kubernetes cluster on this machine.
	e2e/cluster/run.sh $(ARGS)

# The files are committed, and change only with tools/mtcnn.
.PHONY: mtcnn-weights
mtcnn-weights: ## Make MTCNN's embedded networks again, from the Python package that has them.
	python3 tools/mtcnn/convert.py face/mtcnn/weights

.PHONY: lint
lint: $(BIN)/golangci-lint $(BIN)/buf $(BIN)/actionlint ## Lint Go and the contract.
	golangci-lint run --allow-parallel-runners ./...
	cd e2e && golangci-lint run --allow-parallel-runners ./...
	cd e2e/cluster && golangci-lint run --allow-parallel-runners ./... && go mod tidy -diff
	cd bench && golangci-lint run --allow-parallel-runners ./... && go mod tidy -diff
	cd bench/peers && golangci-lint run --allow-parallel-runners ./... && go mod tidy -diff
	cd tools/nnkernels && golangci-lint run --allow-parallel-runners ./... && go mod tidy -diff
	cd tools/images && golangci-lint run --allow-parallel-runners ./... && go mod tidy -diff
	buf lint
	actionlint -shellcheck= -pyflakes=
	go mod tidy -diff

# The database is a module, pinned in tools/go.mod, so that a commit that has passed
# passes again.
.PHONY: vulncheck
vulncheck: $(BIN)/govulncheck ## Fail if the product calls code that has a known vulnerability.
	cd tools && go mod download golang.org/x/vulndb
	database=file://$$(cd tools && go list -m -f '{{.Dir}}' golang.org/x/vulndb)/data/osv; \
	for module in . bench; do (cd $$module && govulncheck -db $$database ./...); done

.PHONY: vulndb
vulndb: ## Update the database of known vulnerabilities, and check against it.
	cd tools && go get golang.org/x/vulndb@latest
	$(MAKE) vulncheck

# Changes for which the generator has no options. It forbids unknown fields in every
# message, but a newer server may send more fields, and a server ignores fields that it
# does not know. And its base file cannot refer to schemas that are generated later.
finish_openapi = sed -i.generated -E -e '/^      additionalProperties: false$$/d' \
	-e 's,x-ref: (.+),$$ref: "\#/components/schemas/\1",' $(1) && rm $(1).generated

# The licenses of all that is in the binaries, into the file that is given.
write_licenses = go run ./internal/licenses ./cmd/server ./cmd/client > $(1).new && mv $(1).new $(1)

# The kernels of a package, in the folder that is given.
kernels := nn face/mtcnn/area face/grid/resample face/rgba photo/dct
generate_kernels = cd $(1) && nnkernels -kernels $(notdir $(1)) -out kernels_amd64.s -stubs kernels_amd64.go -pkg $(notdir $(1))
.PHONY: $(BIN)/nnkernels
$(BIN)/nnkernels:
	cd tools/nnkernels && go build -o $(abspath $@) .

.PHONY: generate
generate: $(BIN)/buf $(BIN)/protoc-gen-connect-openapi $(BIN)/nnkernels ## Generate gen/ and web/openapi.yaml from proto/, the assembly, and the text of --licenses.
	buf generate
	$(call write_licenses,cmd/server/licenses.txt)
	$(call finish_openapi,web/openapi.yaml)
	$(foreach package,$(kernels),($(call generate_kernels,$(package)));)

.PHONY: check-generated
check-generated: $(BIN)/buf $(BIN)/protoc-gen-connect-openapi $(BIN)/nnkernels ## Fail if the generated files are not up to date.
	@rm -rf $(BIN)/generated && buf generate -o $(BIN)/generated
	@$(call finish_openapi,$(BIN)/generated/web/openapi.yaml)
	@diff -r gen $(BIN)/generated/gen && diff web/openapi.yaml $(BIN)/generated/web/openapi.yaml || \
		{ echo 'gen/ or web/openapi.yaml is not what proto/ generates: run "make generate"'; exit 1; }
	@$(call write_licenses,$(BIN)/generated/licenses.txt)
	@diff cmd/server/licenses.txt $(BIN)/generated/licenses.txt || \
		{ echo 'the text of --licenses is not that of all modules: run "make generate"'; exit 1; }
	@$(foreach package,$(kernels),mkdir -p $(BIN)/generated/$(package) && ($(call generate_kernels,$(BIN)/generated/$(package))) && \
		diff $(package)/kernels_amd64.s $(BIN)/generated/$(package)/kernels_amd64.s && diff $(package)/kernels_amd64.go $(BIN)/generated/$(package)/kernels_amd64.go || \
		{ echo 'the assembly of $(package) is not what tools/nnkernels generates: run "make generate"'; exit 1; };)

# proto/released.binpb is the contract of the last release, on which clients depend.
.PHONY: check-contract
check-contract: $(BIN)/buf ## Fail if the contract is incompatible with that of the last release.
	buf breaking --against proto/released.binpb

.PHONY: release-contract
release-contract: $(BIN)/buf ## Record the current contract as that of the last release.
	buf build --exclude-source-info -o proto/released.binpb

.PHONY: clean
clean: ## Remove all build results.
	rm -rf $(BIN) e2e/node_modules e2e/java/jars tools/onnxruntime/node_modules
