# `make start` and `make test` are all that a newcomer types. Each sets up what it needs: programs that are
# missing come from the distribution (Debian, Ubuntu), with sudo where you are not root. Rust is yours to install.

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin
export DEBIAN_FRONTEND := noninteractive

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)

# What the tests run, as COMMAND:PACKAGE.
PROGRAMS := iperf3:iperf3 ping:iputils-ping arping:iputils-arping tcpdump:tcpdump nft:nftables ip:iproute2 \
    jq:jq socat:socat tshark:tshark curl:curl python3:python3 ethtool:ethtool ps:procps nsenter:util-linux \
    valgrind:valgrind tmux:tmux strace:strace radvd:radvd iptables-legacy:iptables
# What `make kernels` runs besides.
EMULATION := qemu-system-x86_64:qemu-system-x86 busybox:busybox cpio:cpio modprobe:kmod strip:binutils
CARGO_DENY := 0.20.2

# 1 where AppArmor lets only root make a user namespace, as Ubuntu has it since 24.04.
USERNS_RESTRICTED := kernel.apparmor_restrict_unprivileged_userns
userns_restricted = [ "$$(sysctl -n $(USERNS_RESTRICTED) 2>/dev/null)" = 1 ]

.PHONY: start test rust programs userns lint unit netns instructions baseline doc deny kernels

start: rust ## Build, and start a switch with three containers
	@[ -z '$(SUDO)' ] || ! $(userns_restricted) || { \
	    echo 'No sandbox for users here ($(USERNS_RESTRICTED) is 1), so the switch runs as root, by sudo.'; \
	    set -- --config 'target."cfg(unix)".runner = "sudo"'; }; \
	cargo run --release --locked "$$@" -- start --ports 3

test: rust programs userns lint unit netns instructions doc deny ## Everything that must hold before a change goes in

lint: rust
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test netns --test topology --test hot_path -- -D warnings

unit: rust
	cargo test --locked

netns: rust programs userns
	cargo netns --locked

# What a frame costs, against what was accepted in benches/instructions.toml; `make baseline` accepts what it costs now.
instructions: rust programs
	cargo bench --locked --bench instructions

baseline: rust programs
	cargo bench --locked --bench instructions -- --save

doc: rust
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

# The list of known vulnerabilities lives in a git repository of its own; the rest needs no network.
deny: rust
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@$(CARGO_DENY)
	cargo deny --locked check bans licenses sources
	@if timeout 60 cargo deny fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else echo 'NOT CHECKED: advisories, because their database cannot be reached from here'; fi

kernels: rust programs ## The main things on other kernels, under qemu: `make kernels SERIES='6.1 6.12'`
	@$(call install,$(EMULATION))
	cargo build --release --locked
	tests/kernels/run

rust:
	@command -v cargo >/dev/null || { \
	    echo 'There is no Rust toolchain: install one as https://rustup.rs says, and try again.' >&2; exit 1; }
	@cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1 || \
	    rustup component add clippy rustfmt
	@$(call install,cc:gcc cc:libc6-dev)

# The tests of the switch without root are run as a user.
userns:
	@! $(userns_restricted) || { \
	    echo 'The tests without root cannot run here: sudo sysctl $(USERNS_RESTRICTED)=0, and try again.' >&2; exit 1; }

programs:
	@$(call install,$(PROGRAMS))

# Installs the packages of those commands that are missing.
define install
missing=; for program in $(1); do \
    command -v "$${program%%:*}" >/dev/null || missing="$$missing $${program#*:}"; \
done; \
[ -z "$$missing" ] || { \
    command -v apt-get >/dev/null || { echo "Please install:$$missing" >&2; exit 1; }; \
    $(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq --no-install-recommends $$missing; }
endef
