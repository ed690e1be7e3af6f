# make run    builds the broker and starts it with its data in ./data
# make test   is the whole test suite, the demo scripts included
# make check  adds the race detector, the linters and the other platforms
# make model  runs SEEDS seeds of every model test, from FIRST on; a failure says its seed
# make test-crash  kills a broker CYCLES times under load
# make test-arm64  runs the tests for linux/arm64 on another processor, under qemu
# make test-power  takes a broker's file system away, ext4 and xfs, CYCLES times under load; root only
# make conformance  fetches the nats command line tool, nats.js and nats.py, and tests the broker with them
# make bench        measures this machine's broker beside the floors and writes docs/benchmarks.md
# make bench-peers  builds nats-server and nsqd, measures the broker beside them and Redis, ROUNDS times,
#                   and writes their tables and plots into the documents
# make bench-nats   the part of it that nats-server and the broker do with NATS clients
# make bench-compare REF=main~1  compares the micro-benchmarks with those of another commit
# make scale        measures what partitions, connections, subscribers, sizes and a backlog cost as they grow
# make soak         runs a mix of load for SOAK and says whether anything grows
# make fuzz   runs every fuzz target for FUZZTIME

GO       ?= go
FUZZTIME ?= 10s
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCILINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT      = mvdan.cc/gofumpt@v0.12.0

NATSCLI      = github.com/nats-io/natscli/nats@v0.5.1
NATSJS       = @nats-io/transport-node@3.4.0
NATSPY       = nats-py==2.15.0

DEMOS = helloworld partitioned_demo retention_demo offset_tracking_demo

SEEDS    ?= 1000
FIRST    ?= 1
CYCLES   ?= 50
ROUNDS   ?= 5
REF      ?= HEAD
SOAK     ?= 10m

.PHONY: build run test model test-arm64 test-crash test-power test-peers conformance bench bench-compare peers bench-peers bench-nats scale soak demos check race vet staticcheck golangci-lint gofumpt cross fuzz clean

build:
	$(GO) build -ldflags '-X main.version=$(VERSION)' -o bin/rafka ./cmd/rafka

run: build
	bin/rafka serve --data ./data

test: vet
	$(GO) test ./...
	$(MAKE) demos

model:
	RAFKA_SEEDS=$(SEEDS) RAFKA_SEED=$(FIRST) $(GO) test -count=1 -timeout 0 -run '^TestModel' ./...
	$(GO) test -count=1 -timeout 0 -run '^TestModel' ./subject ./server -rapid.checks=$(SEEDS)

# The kernel must start programs for arm64 with qemu-aarch64, which Debian's qemu-user-binfmt sets up. Not with bench: its
# brokers are asked for their resident memory, which is 0 under qemu.
test-arm64:
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) test -timeout 60m $$($(GO) list ./... | grep -v '/bench$$')

test-crash:
	RAFKA_CRASH_CYCLES=$(CYCLES) $(GO) test -count=1 -timeout 60m -v ./internal/crash

test-power:
	RAFKA_POWER_CYCLES=$(CYCLES) $(GO) test -count=1 -timeout 60m -v -run PowerFailure ./internal/crash

conformance:
	GOBIN=$(CURDIR)/bin/tools $(GO) install $(NATSCLI)
	mkdir -p bin/tools/js
	if command -v npm; then npm install --no-audit --no-fund --prefix bin/tools/js $(NATSJS); fi
	-command -v pip && pip install --quiet --target bin/tools/py $(NATSPY)
	RAFKA_NATS_CLI=$(CURDIR)/bin/tools/nats RAFKA_NATS_JS=$(CURDIR)/bin/tools/js RAFKA_NATS_PY=$(CURDIR)/bin/tools/py \
		$(GO) test -count=1 -v ./internal/conformance

bench: build
	bin/rafka bench compare --rounds $(ROUNDS) --write docs/benchmarks.md

bench-compare:
	scripts/bench-compare.sh $(REF)

scale: build
	bin/rafka bench scale --rounds $(ROUNDS) --write docs/benchmarks.md

soak: build
	bin/rafka bench soak --duration $(SOAK) --write docs/benchmarks.md

PEERS = bin/tools/peers --rounds $(ROUNDS) --json docs/plots/peers.json --write docs/benchmarks.md,docs/peers.md,README.md --plots docs/plots

peers: build
	cd bench/peers && $(GO) build -o $(CURDIR)/bin/tools/ . github.com/nats-io/nats-server/v2 \
		github.com/nats-io/natscli/nats github.com/nsqio/nsq/apps/nsqd

bench-peers: peers
	$(PEERS)

bench-nats: peers
	$(PEERS) --systems '^(nats|rafka-nats)$$'

demos: build
	for demo in $(DEMOS); do RAFKA=bin/rafka scripts/$$demo.sh || exit 1; done

check: test test-peers race staticcheck golangci-lint gofumpt cross

test-peers:
	cd bench/peers && $(GO) vet ./... && $(GO) test ./...

race:
	$(GO) test -race -shuffle=on ./...

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

golangci-lint:
	$(GO) run $(GOLANGCILINT) run ./...

gofumpt:
	@unformatted="$$($(GO) run $(GOFUMPT) -l .)"; \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofumpt:"; echo "$$unformatted"; exit 1; fi

cross:
	$(GO) test -tags purego ./wire/...
	$(GO) test -tags purego -run 'Payload|Run' ./log
	GOOS=darwin GOARCH=amd64 $(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=linux GOARCH=arm64 $(GO) vet ./...
	GOOS=linux GOARCH=386 $(GO) vet ./client ./wire/...
	GOOS=linux GOARCH=386 $(GO) build -o /dev/null ./cmd/rafka 2>&1 | grep -q the_broker_needs_a_64_bit_processor

fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

clean:
	rm -rf bin
