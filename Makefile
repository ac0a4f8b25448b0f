# Two commands do everything on a machine with a Rust toolchain and a C compiler:
#   make run    builds, starts and prints the address
#   make test   everything that CI runs first; installs what it needs
#   make test-cluster   what CI runs behind it: the workflow engine, which is built once, the tests
#                       of the real binary with PostgreSQL as the store, and a cluster under faults
#                       (FAULTS, PEOPLE and SEED choose another run)
# and two more for patience:
#   make soak SCHEDULES=1000000 SEED=1 SOAK_SECONDS=10   the simulator, then bytes against every reader
#   make simulate SCHEDULES=1000000 SEED=1               the simulator alone
#   make fuzz SECONDS=600                 bytes against every reader, so long for each
#   make bench                            measures a server of its own and draws what happened

SCHEDULES ?= 1000000
SEED ?= 1
SECONDS ?= 60
SOAK_SECONDS ?= 10
EXAMPLES ?= 25
PLAYED ?= soak
ARGS ?=
CARGO ?= cargo
IN_TESTS = RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-counted.sh
TESTED = $(CARGO) test --locked
TEST = $(IN_TESTS) $(TESTED)

.PHONY: run test test-cluster both setup lint unit behind page crash soak simulate mutants fuzz contract battery walkthrough bench clean

run:
	@$(CARGO) build --release --locked -p turnkeep
	@exec ./target/release/turnkeep serve $(ARGS)

# Tests mostly wait, so the simulator is built and plays behind them. What fuzzes is built with them.
test: setup lint
	$(TEST) --workspace --no-run
	@$(MAKE) --no-print-directory --jobs 2 unit behind CHOSEN="--skip fuzz::"
	@$(MAKE) --no-print-directory fuzz SECONDS=1
	@TURNKEEP_BINARY=$(CURDIR)/target/debug/turnkeep $(MAKE) --no-print-directory contract EXAMPLES=10

# One build plays the schedules and hunts the planted mistakes here, and not in one piece: that takes
# longer than it saves.
behind: alone = MAKEFLAGS= nice -n 19 $(MAKE) --no-print-directory CARGO=$(CARGO) SIMULATED="--features mutants" PLAYED=played
behind:
	@$(alone) simulate SCHEDULES=$(SCHEDULES) SEED=$(SEED)
	@$(alone) mutants

# Chromium with its driver, tmux and a PostgreSQL server's programs, from the distribution's
# packages, and a C compiler for the crash tests; Node, checkers of types for the example
# brains, a real server of tools and a real signal-cli, below target/.
setup:
	@scripts/setup.sh
	@scripts/brains.sh
	@scripts/tools.sh
	@scripts/signal.sh

# What needs the workflow engine: builds it once (Go, a few minutes), then everything that is built
# with the feature; the end-to-end tests with the other store; and minutes of faults. `make test`
# leaves all of it out.
ENGINE = --locked -p turnkeep-hatchet --features turnkeep-hatchet/engine-tests
test-cluster:
	@scripts/cluster-setup.sh
	$(CARGO) clippy $(ENGINE) --all-targets -- -D warnings
	$(CARGO) clippy --locked -p turnkeep --features hatchet --all-targets -- -D warnings
	$(CARGO) test $(ENGINE) --test hatchet
	$(CARGO) test --locked -p turnkeep --features hatchet --test hatchet
	@$(MAKE) --no-print-directory both BOTH="$(CARGO) test --locked -p turnkeep --features hatchet"
	$(CARGO) test --locked -p turnkeep --features hatchet --test faults -- --nocapture

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Every test of every crate: units, the API over real sockets, the page in a real browser, the
# real binary killed a hundred times. Two test binaries at once, for tests mostly wait.
unit:
	@scripts/brains.sh
	@scripts/tools.sh
	@scripts/signal.sh
	@$(IN_TESTS) scripts/test-binaries.py $(TESTED) --workspace -- $(CHOSEN)

# The tests of the real binary once more, with PostgreSQL in the place of the file; says what it
# leaves out, and why. BINARIES="crash keys" runs these alone.
BOTH = $(TEST) --workspace
both:
	@scripts/brains.sh
	@scripts/tools.sh
	@scripts/signal.sh
	@scripts/both.sh env $(BOTH)

page:
	$(TEST) -p turnkeep --test page

crash:
	$(TEST) -p turnkeep --test crash

# The simulator, then bytes against every reader, as long as you like.
soak: simulate
	@$(MAKE) --no-print-directory fuzz SECONDS=$(SOAK_SECONDS)

# Prints the seed of any failure.
simulate:
	$(CARGO) run --profile $(PLAYED) --locked -p turnkeep-sim $(SIMULATED) -- --schedules $(SCHEDULES) --seed $(SEED)

# Plants mistakes and says how fast the simulator finds each.
mutants:
	$(CARGO) run --profile $(PLAYED) --locked -p turnkeep-sim --features mutants -- --mutants

# Bytes against every reader of what comes from outside, led by what they reach. Keeps what it finds
# in target/fuzz, prints the file of any failure.
fuzz: export TURNKEEP_FUZZ_SECONDS = $(SECONDS)
fuzz:
	$(TEST) --quiet -p turnkeep-fuzz --test planted
	$(TEST) --quiet --workspace --lib --bins fuzz:: -- --nocapture

# The real server against its own OpenAPI document, EXAMPLES for each address and each sort of key.
contract:
	@scripts/contract.sh $(EXAMPLES)

# Attackers against the real server; prints what a healthy client felt meanwhile.
battery:
	$(TEST) -p turnkeep --test battery -- --nocapture

# The page docs/walkthrough.md and what is to be tried in docs/brains.md, pasted from top to bottom.
walkthrough:
	$(TEST) -p turnkeep --test walkthrough

bench:
	@$(CARGO) build --release --locked -p turnkeep
	@./target/release/turnkeep bench $(ARGS)

clean:
	$(CARGO) clean
