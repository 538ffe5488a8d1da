# What a developer and CI run. `make test` needs the Rust toolchain, make and a C compiler. tests/tools installs redis-server,
# openssl, haproxy, prometheus, curl, faketime, python3 and node, or names them; tests that need a missing one are ignored.

CARGO := cargo
FLAGS := --release --locked
# The gate's own profile is built in half the time of a release, and ends at sums that overflow.
GATE := --profile gate --locked
# Packages name no folder of the machine that built them.
CARGO_FOLDER := $(or $(CARGO_HOME),$(HOME)/.cargo)

.PHONY: help build demo cluster drill package container image test pages interface truth sabotage mixed lint format bench instructions sidebyside storm proof fuzz supply vendor clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the binary, in target/release
	$(CARGO) build $(FLAGS)

demo: ## a synthetic town on this machine, with lines to paste
	$(CARGO) run $(FLAGS) -- demo

cluster: build ## three nodes over a Redis Cluster behind HAProxy, on this machine, until Ctrl-C (needs redis-server, haproxy)
	LIANGMA=target/release/liangma deploy/cluster

drill: build ## eight drills against a cluster of its own: what was expected, seen, and how long (as cluster, and python3, faketime)
	LIANGMA=target/release/liangma deploy/drill --start

package: ## .deb, .rpm, stripped binary, debug information and a bill of materials, in target/package (needs cargo-deb, cargo-generate-rpm, cargo-cyclonedx)
	RUSTFLAGS="--remap-path-prefix=$(CARGO_FOLDER)=/cargo --remap-path-prefix=$(CURDIR)=/liangma" \
	CFLAGS="-ffile-prefix-map=$(CARGO_FOLDER)=/cargo -ffile-prefix-map=$(CURDIR)=/liangma" $(MAKE) build
	deploy/package/build

container: ## the ten commands of docs/operate/first-node.md in a bare Debian, with the .deb of `make package` (as root; needs debootstrap, systemd-container)
	tests/container

image: ## the image and compose.yaml, built and run without a daemon or a registry of images (as root; needs buildah, podman, debootstrap, docker-compose)
	tests/image

test: lint ## the gate: format, lints, every test (on Debian as root it installs what tests need; elsewhere it says what is missing)
	@missing=$$(tests/tools) || exit; \
	if [ -n "$$missing" ]; then export TEST_MISSING="$$missing"; fi; \
	$(CARGO) test $(GATE) -p liangma -p loadtest

pages: build ## the pages in a real browser (needs chromium, node, npm, zbar-tools)
	cd tests/pages && npm ci --silent && node --test --test-concurrency=1

interface: build ## the documented interface against a real node, by schemathesis (needs Python, pip install schemathesis)
	tests/pages/interface

truth: ## ten minutes of random faults under three nodes, every answer checked (needs redis-server)
	TEST_TRUTH_SECONDS=600 $(CARGO) test $(FLAGS) --test it -- truth --include-ignored --nocapture

sabotage: ## whether truth sees a node that lies: with each guard taken out, and with none (needs redis-server, Python; a quarter of an hour)
	tests/sabotage

mixed: ## events of every kind for a million residents, the import killed again and again, in both stores (some minutes)
	TEST_MIXED_RESIDENTS=1000000 $(CARGO) test $(FLAGS) --test it -- a_mixed_import --nocapture

lint: ## rustfmt and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy $(GATE) --workspace --all-targets -- -D warnings

format: ## rustfmt
	$(CARGO) fmt

bench: ## the steps of the hot path in wall time
	$(CARGO) bench --locked --bench steps

instructions: ## the same in instructions (needs valgrind)
	$(CARGO) build $(FLAGS) -p loadtest
	loadtest/instructions

sidebyside: ## CPU a request beside an epoll loop, nginx and HAProxy (needs wrk, nginx, haproxy; four minutes)
	$(CARGO) build $(FLAGS) -p liangma -p loadtest
	loadtest/sidebyside

storm: ## goodput at ten times the load and after a spike, beside nginx and HAProxy (as root; needs nginx, haproxy; five minutes)
	$(CARGO) build $(FLAGS) -p liangma -p loadtest
	loadtest/storm --servers liangma,open,nginx,haproxy --shapes ten-times,spike --repeats 1 --out target/storm

PROOF_REPEATS := 3
PROOF_SERVERS := liangma,spare,l7,l4,nginx,haproxy
proof: ## who is served in time and who is told, at 0.9 to 10 times the load: node, L4, L7; kept and new connections; patience of 250 ms and of 1 s (as root; needs nginx, haproxy; two hours, or less with PROOF_SERVERS, PROOF_REPEATS)
	$(CARGO) build $(FLAGS) -p liangma -p loadtest
	for whose in kept new; do for patience in 250ms 1s; do \
		loadtest/storm --servers $(PROOF_SERVERS) --shapes nine-tenths,once,twice,five-times,ten-times --repeats $(PROOF_REPEATS) \
			--percent 1.5 --period 66667 --connecting $$whose --patience $$patience --out target/proof/$$whose-$$patience || [ $$? = 3 ] || exit 1; \
	done; done

FUZZ_SECONDS := 600
FUZZ_TARGETS := feed_line code query_head rest foreign recognition desk list

fuzz: ## each fuzz target for ten minutes, or FUZZ_SECONDS (needs nightly and cargo-fuzz)
	for target in $(FUZZ_TARGETS); do mkdir -p fuzz/corpus/$$target; \
		CARGO_PROFILE_RELEASE_LTO=off $(CARGO) +nightly fuzz run --features run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

supply: ## licences, bans, sources, known vulnerabilities, unused dependencies (needs cargo-deny, cargo-machete; the advisories need the network)
	$(CARGO) deny check bans licenses sources
	$(CARGO) deny check advisories
	$(CARGO) machete

vendor: ## whether what is vendored is what was published (needs npm)
	folder=$$(mktemp -d) && cd "$$folder" && npm pack --silent jsqr@1.4.0 >/dev/null && tar xzf jsqr-1.4.0.tgz \
		&& cmp package/dist/jsQR.js "$(CURDIR)/pages/vendor/jsQR.js" && echo "jsQR.js is that of jsqr 1.4.0"; rm -rf "$$folder"

clean: ## everything built
	$(CARGO) clean
