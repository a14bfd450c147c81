# Two commands do everything on a machine with Go, git and make: `make run` and `make test`.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      ?= go
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint
export CGO_ENABLED ?= 0

PORT     ?= 8080
DATA_DIR ?= .cache/run
FUZZTIME ?= 30s
HOURS    ?= 200
SEED     ?= 1

.PHONY: help run build examples test race testacc testacc-faults chaos chaos-short soak sim sim-short docs lint fmt fuzz bench e2e cross clean

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

build: ## build bin/ten
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ten ./cmd/ten

examples: ## build the example programs that are written in Go
	$(GO) build -o examples/hello/hello ./examples/hello
	$(GO) build -o examples/chat/chat ./examples/chat

run: build examples ## build everything and serve examples/hello on PORT (default 8080)
	@[ -t 1 ] || printf 'http://%s.localhost:$(PORT)/\n' alice.hello bob.hello hello # ten itself tells a terminal
	@exec bin/ten serve --config examples/hello/tenement.toml --data-dir $(DATA_DIR) --port $(PORT)

test: ## the tests, shuffled, the end-to-end tests included
	$(GO) vet ./...
	$(GO) test -shuffle=on -timeout 15m ./...

race: ## the tests under the race detector (needs a C compiler)
	@command -v $${CC:-cc} >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y -qq gcc libc6-dev; } || \
	  { echo "make race: Go's race detector needs a C compiler: apt-get install gcc libc6-dev" >&2; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 25m ./...

e2e: build examples ## the black-box tests against the real binary, the long ones too
	TEN_E2E_LONG=1 $(GO) test -count=1 -v -timeout 30m ./e2e/...

testacc: ## the provider's acceptance tests: the terraform command against real clusters; TESTACC='-run Fleet'
	@command -v terraform >/dev/null || { echo "make $@: terraform (1.11 or later) is not on PATH" >&2; exit 1; }
	$(GO) test -count=1 -v -timeout 20m ./provider/... $(TESTACC)

testacc-faults: ## the same while the leader is killed in each apply
	@command -v terraform >/dev/null || { echo "make $@: terraform (1.11 or later) is not on PATH" >&2; exit 1; }
	TEN_LEADER_DIES=1 $(GO) test -count=1 -v -timeout 60m ./provider/... $(TESTACC)

chaos: ## break three real servers in every way, about an hour; CHAOS='-chaos.kills=1000 -run Kills' (root)
	@$(chaos-needs)
	TEN_CHAOS=1 $(GO) test -count=1 -v -timeout 12h ./e2e/chaos $(CHAOS)

chaos-short: ## the same in three minutes, a few faults of each kind
	@$(chaos-needs)
	TEN_CHAOS=1 $(GO) test -count=1 -v -timeout 15m -parallel 3 ./e2e/chaos -chaos.short $(CHAOS)

# The tests themselves would skip, and say so.
define chaos-needs
[ "$$(id -u)" = 0 ] || { echo "make $@: needs root, for network namespaces" >&2; exit 1; }; \
for p in ip:iproute2 nft:nftables nsenter:util-linux strace:strace; do \
  command -v $${p%%:*} >/dev/null || { echo "make $@: $${p%%:*} is missing: apt-get install $${p##*:}" >&2; exit 1; }; done
endef

soak: ## 100,000 sleep/wake cycles of a whole server with the fake driver
	TEN_LONG=1 $(GO) test -count=1 -v -timeout 30m -run TestCycles ./server/servertest

# Two processes with one processor each are faster than one with two: a simulation runs
# one goroutine at a time for most of it.
sim: ## HOURS (default 200) simulated cluster-hours of faults from SEED on, and the mutants
	@mkdir -p .cache
	$(GO) test -c -o .cache/sim.test ./consensus/sim
	@cd consensus/sim && export GOMAXPROCS=1 GOGC=400 && half=$$(( ($(HOURS) + 1) / 2 )); \
	  ../../.cache/sim.test -test.run TestSim -test.timeout 6h -seed $(SEED) -hours $$half & first=$$!; \
	  ../../.cache/sim.test -test.run TestSim -test.timeout 6h -seed $$(( $(SEED) + 1000000 )) -hours $$half; second=$$?; \
	  wait $$first && exit $$second
	$(GO) test -count=1 -timeout 30m -run TestMutants -v ./consensus/sim -mutants

sim-short: ## a third of a simulated cluster-hour, as in make test
	$(GO) test -count=1 -timeout 10m -v ./consensus/sim

docs: ## write docs/terraform anew, from the provider's schemas and terraform/docs; make test fails when it is stale
	$(GO) test -count=1 -run '^TestDocs$$' ./provider -update

lint: ## golangci-lint, pinned in tools/go.mod
	$(LINT) run ./...

fmt: ## format as gofumpt does
	$(LINT) fmt ./...

fuzz: ## every fuzz target for FUZZTIME each (default 30s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; done; done

bench: build examples ## the comparisons of docs/benchmarks.md, as ratios measured in one run; BENCH="-scale 0.1 fleet" chooses
	$(GO) run ./bench $(BENCH)

cross: ## the client commands build for other systems
	GOOS=darwin $(GO) build -o /dev/null ./cmd/ten
	GOOS=windows $(GO) build -o /dev/null ./cmd/ten
	GOOS=darwin $(GO) build -o /dev/null ./cmd/terraform-provider-ten
	GOOS=windows $(GO) build -o /dev/null ./cmd/terraform-provider-ten

clean: ## remove what the targets above made
	rm -rf bin .cache examples/hello/hello examples/chat/chat
