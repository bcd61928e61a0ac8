# Start with `make start` and `make test`. Both install missing programs from the distribution (Debian, Ubuntu), with sudo
# if you are not root. Install Rust yourself.

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin
export DEBIAN_FRONTEND := noninteractive

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)

# Programs for the tests, as COMMAND:PACKAGE, and a library, as DIRECTORY:PACKAGE.
PROGRAMS := iperf3:iperf3 ping:iputils-ping arping:iputils-arping tcpdump:tcpdump nft:nftables ip:iproute2 \
    passt:passt qemu-system-x86_64:qemu-system-x86 \
    jq:jq socat:socat tshark:tshark curl:curl udhcpc:udhcpc dhclient:isc-dhcp-client dig:bind9-dnsutils dnsmasq:dnsmasq-base python3:python3 ethtool:ethtool ps:procps nsenter:util-linux \
    valgrind:valgrind tmux:tmux strace:strace radvd:radvd rdisc6:ndisc6 dhcpcd:dhcpcd-base pimd:pimd iptables-legacy:iptables mandoc:mandoc \
    /usr/bin/jsonschema:python3-jsonschema /usr/lib/cni/host-local:containernetworking-plugins podman:podman \
    crun:crun slirp4netns:slirp4netns newuidmap:uidmap /usr/bin/mn:mininet \
    dockerd:docker.io docker:docker.io docker-compose:docker-compose \
    go:golang-go /usr/share/gocode/src/github.com/containernetworking/cni/libcni:golang-github-appc-cni-dev
# More programs for `make kernels`.
EMULATION := qemu-system-x86_64:qemu-system-x86 busybox:busybox cpio:cpio modprobe:kmod strip:binutils
CARGO_DENY := 0.20.2
NETAVARK := 2.1.0
KATHARA := $(HOME)/.local/share/kathara

# 1 if AppArmor allows only root to create user namespaces, the default of Ubuntu since 24.04.
USERNS_RESTRICTED := kernel.apparmor_restrict_unprivileged_userns
userns_restricted = [ "$$(sysctl -n $(USERNS_RESTRICTED) 2>/dev/null)" = 1 ]

.PHONY: start test rust programs netavark kathara userns lint unit netns instructions baseline doc deny kernels

start: rust ## Build, and start a switch with three containers
	@[ -z '$(SUDO)' ] || ! $(userns_restricted) || { \
	    echo 'Users cannot create user namespaces here ($(USERNS_RESTRICTED) is 1), so the switch runs as root with sudo.'; \
	    set -- --config 'target."cfg(unix)".runner = "sudo"'; }; \
	cargo run --release --locked "$$@" -- start --ports 3

test: rust programs userns lint unit netns instructions doc deny ## Run all checks

lint: rust
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test netns --test topology --test hot_path --test fastpath -- -D warnings

unit: rust
	cargo test --locked

# A shell ignores SIGINT and SIGQUIT in what it runs in the background, and tests send these.
netns: rust programs netavark kathara userns
	env --default-signal=INT,QUIT cargo netns --locked

# Compares instruction counts with benches/instructions.toml. `make baseline` accepts the current counts.
instructions: rust programs
	cargo bench --locked --bench instructions

baseline: rust programs
	cargo bench --locked --bench instructions -- --save

doc: rust
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

# The database of advisories is a git repository. The other checks need no network.
deny: rust
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@$(CARGO_DENY)
	cargo deny --locked check bans licenses sources
	@if timeout 60 cargo deny fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else echo 'NOT CHECKED: advisories, because their database cannot be reached'; fi

kernels: rust programs ## Run the main tests on other kernels under qemu: `make kernels SERIES='6.1 6.12'`
	@$(call install,$(EMULATION))
	cargo build --release --locked
	tests/kernels/run

rust:
	@command -v cargo >/dev/null || { \
	    echo 'No Rust toolchain found: install one from https://rustup.rs and try again.' >&2; exit 1; }
	@cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1 || \
	    rustup component add clippy rustfmt
	@$(call install,cc:gcc cc:libc6-dev)

# Tests without root need user namespaces.
userns:
	@! $(userns_restricted) || { \
	    echo 'The tests without root cannot run here: run sudo sysctl $(USERNS_RESTRICTED)=0 and try again.' >&2; exit 1; }

programs:
	@$(call install,$(PROGRAMS))

# Distributions that have podman 4 have no netavark with plugins.
netavark: rust
	@$(call install,protoc:protobuf-compiler)
	netavark --version >/dev/null 2>&1 || cargo install --locked --debug --bin netavark netavark@$(NETAVARK)

# In a virtual environment. The package has no command.
kathara: rust
	@$(call install,virtualenv:virtualenv)
	command -v kathara >/dev/null || { \
	    virtualenv --quiet $(KATHARA) && $(KATHARA)/bin/pip install --quiet --requirement tests/netns/kathara.txt && \
	    printf '#!/bin/sh\nexec %s -m kathara "$$@"\n' $(KATHARA)/bin/python | \
	        install -D -m 755 /dev/stdin $(HOME)/.cargo/bin/kathara; }

# Installs the packages of missing commands, without starting their services (invoke-rc.d(8)).
POLICY := /usr/sbin/policy-rc.d
define install
missing=; for program in $(1); do \
    case $$program in \
    /*) [ -e "$${program%%:*}" ] ;; \
    *) command -v "$${program%%:*}" >/dev/null ;; \
    esac || missing="$$missing $${program#*:}"; \
done; \
[ -z "$$missing" ] || { \
    command -v apt-get >/dev/null || { echo "Please install:$$missing" >&2; exit 1; }; \
    [ -e $(POLICY) ] || { trap '$(SUDO) rm $(POLICY)' EXIT; \
        printf '#!/bin/sh\nexit 101\n' | $(SUDO) install -m 755 /dev/stdin $(POLICY); }; \
    $(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq --no-install-recommends $$missing; }
endef
