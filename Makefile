# Two commands do everything on a machine with a Rust toolchain and a C compiler:
#   make run    builds, starts and prints the address
#   make test   everything that CI runs; installs what it needs
# and two more for patience:
#   make soak SCHEDULES=1000000 SEED=1    the simulator, as long as you like
#   make bench                            measures a server of its own and draws what happened

SCHEDULES ?= 1000000
SEED ?= 1
ARGS ?=
CARGO ?= cargo

.PHONY: run test setup lint unit page crash soak mutants bench clean

run:
	@$(CARGO) build --release --locked -p turnkeep
	@exec ./target/release/turnkeep serve $(ARGS)

test: setup lint unit soak mutants

# Chromium and its driver, from the distribution's packages, and a C compiler for the crash tests.
setup:
	@scripts/setup.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Every test of every crate: units, the API over real sockets, the page in a real browser, the
# real binary killed a hundred times.
unit:
	$(CARGO) test --workspace --locked

page:
	$(CARGO) test --locked -p turnkeep --test page

crash:
	$(CARGO) test --locked -p turnkeep --test crash

# Prints the seed of any failure.
soak:
	$(CARGO) run --profile soak --locked -p turnkeep-sim -- --schedules $(SCHEDULES) --seed $(SEED)

# Plants mistakes and says how fast the simulator finds each.
mutants:
	$(CARGO) run --profile soak --locked -p turnkeep-sim --features mutants -- --mutants

bench:
	@$(CARGO) build --release --locked -p turnkeep
	@./target/release/turnkeep bench $(ARGS)

clean:
	$(CARGO) clean
