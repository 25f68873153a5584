# Everyday commands. Go, git and make are all that build, test and dist need;
# e2e, bench and lint install the rest (Debian, as root).

GO ?= go
export CGO_ENABLED ?= 0
lint = $(GO) tool -modfile=tools/go.mod golangci-lint
version = $(shell git describe --tags --always --dirty 2>/dev/null)
ldflags = -s -w -X github.com/davit-cli/davit/internal/cli.Version=$(version)
platforms = linux/amd64 linux/arm64 linux/arm linux/386 linux/riscv64 linux/ppc64le linux/s390x \
	darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.PHONY: build test race lint fmt e2e bench dist ci clean $(platforms)

build:          ## ./davit, for this machine
	$(GO) build -trimpath -ldflags "$(ldflags)" -o davit ./cmd/davit

test:           ## what needs nothing but Go
	$(GO) test ./...

race:           ## the same under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race ./...

lint:           ## golangci-lint, pinned in tools/go.mod, and formatting
	$(lint) run ./...

fmt:            ## gofmt
	$(lint) fmt ./...

e2e:            ## against real registries and container engines
	e2e/install
	DAVIT_E2E=1 $(GO) test -count=1 -timeout 40m -v ./e2e

bench:          ## beside crane, skopeo and regctl
	e2e/install
	$(GO) run ./bench

dist: $(platforms)  ## dist/, for all platforms

$(platforms):
	GOOS=$(@D) GOARCH=$(@F) $(GO) build -trimpath -ldflags "$(ldflags)" \
		-o dist/davit-$(@D)-$(@F)$(if $(filter windows,$(@D)),.exe) ./cmd/davit

ci:             ## all that a change has to pass
	.ci/run

clean:
	rm -rf dist davit davit.exe
