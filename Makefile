# lade: `make run` shows it, `make test` proves it. See CONTRIBUTING.md.
export CGO_ENABLED := 0
export DESTDIR PREFIX UNITDIR
VERSION := $(or $(shell git describe --tags --dirty 2>/dev/null),0.1.0-dev+$(shell git describe --always --dirty 2>/dev/null || echo unknown))
LDFLAGS := -s -w -X main.version=$(VERSION) -X lade/internal/cli/app.Version=$(VERSION)
BUILD   := go build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)'
BINS    := lade laded lade-supervisor lade-runtime lade-init lade-gate
# cmd/lade-build is a module of its own: these flags are those of its build, so that
# BuildKit is compiled once.
APART   := -trimpath -tags grpcnotrace
ASSET   := internal/builtin/assets/userland.zst

all: $(ASSET)  # static, stripped bin/{lade,laded,lade-supervisor,lade-runtime,lade-init,lade-gate,lade-build}
	$(BUILD) -o bin/ $(addprefix ./cmd/,$(BINS))
	cd cmd/lade-build && $(BUILD) -o ../../bin/ .

$(ASSET): $(shell find internal/builtin cmd/lade-userland -name '*.go') go.mod
	go run ./internal/builtin/pack -o $@

run: all       # a private daemon, the built-in image, a container: what a user sees first
	scripts/run

check: lint    # and the unit tests: no root, no network, under two minutes when built
	go test ./...
	cd cmd/lade-build && go test $(APART) ./...

test: all      # everything, as root; what CI and the README run
	scripts/test-setup
	$(MAKE) lint
	LADE_TEST_REQUIRE=1 go test -count=1 -p 1 -timeout 15m ./...
	cd cmd/lade-build && LADE_TEST_REQUIRE=1 go test -count=1 -p 1 $(APART) ./...

lint: $(ASSET)
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go tool staticcheck ./...
	GOARCH=arm64 go build ./...
	cd cmd/lade-build && go vet $(APART) ./...
	scripts/lint

man:           # bin/man/man1/lade*.1: the client's manual pages
	go run -ldflags '$(LDFLAGS)' ./internal/cli/manpages -o bin/man/man1

test-vm: all   # what touches the kernel, on another one; VM_RUN names what boots it
	scripts/test-vm

conformance: all # others' programs: OCI runtime-tools; engines on lade-runtime; clients of the API
	scripts/conformance

bench: all     # the figures of SPECIFICATION.md; BENCH_PEERS=1 measures Docker and runc beside lade
	scripts/bench

SOAK ?= 30m
soak: all      # as root: churn, upgrades and restarts under load, random histories (SOAK each: 30m), power cuts, bursts
	LADE_SOAK=$(SOAK) LADE_TEST_REQUIRE=1 go test -count=1 -v -timeout 0 -run '^Test(Churn|Upgrade|Histories|PowerCut|Burst|RestartsUnderLoad)$$' ./test/crash ./test/e2e ./internal/supervisor/server

# What shares memory between goroutines. The detector needs cgo, and a C compiler;
# tests that compare times or memory with limits are not among these packages'.
RACE := ./internal/engine/... ./internal/daemon ./internal/server/... ./internal/supervisor ./internal/events ./internal/logs/... \
	./internal/dns ./internal/registry ./internal/store ./internal/content ./internal/image ./internal/volume ./internal/plugin ./internal/cli/...
race: all      # as root: the engine's tests with the race detector
	CGO_ENABLED=1 LADE_TEST_REQUIRE=1 go test -race -count=1 -p 1 -timeout 15m $(RACE)

OLDER ?= HEAD~100
test-older: all # as root: down to the programs of the commit OLDER and up again, under load
	scripts/test-older $(OLDER)

fuzz:          # every fuzz target for 30 seconds
	scripts/fuzz

sizes:         # the largest of everything, to see it grow
	@go run ./internal/arch/sizes

install: all man # PREFIX (/usr/local), DESTDIR; starts nothing: docs/install.md
	scripts/install

deb: all man   # a Debian package, in bin/
	VERSION='$(VERSION)' scripts/deb

test-deb: all  # install, upgrade and remove the package where systemd runs: in a machine of VM_RUN
	scripts/test-deb

clean:
	rm -rf bin $(ASSET)

.PHONY: all man run check lint test test-vm conformance bench soak race test-older fuzz sizes install deb test-deb clean
