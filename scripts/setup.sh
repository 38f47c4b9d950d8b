#!/usr/bin/env bash
# Installs what Sluicegate needs on Debian: system packages, kernel headers, and the virtual environment in .venv.
# Safe to run again: what is there already is left alone. Needs root only while a system package or link is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian's own interpreter: bcc's Python module is built for it, whatever other python3 comes first in PATH.
python=/usr/bin/python3
venv=.venv
stamps=.stamps

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}
as_root() { [ "$(id -u)" -eq 0 ]; }
installed() { [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

[ -r /etc/debian_version ] && command -v dpkg-query >/dev/null ||
    fail "this script knows Debian 12 and 13 only." \
        "Elsewhere install bcc's Python module, libbpf 1.1 or newer, kernel headers, iproute2, ethtool and a Python" \
        ">= 3.11 that sees bcc, then: python3 -m venv --system-site-packages .venv && .venv/bin/pip install -e '.[agent]'"

# A kernel of Debian's comes with headers of its own; for any other one those of Debian's current kernel do.
kernel=$(uname -r)
headers=linux-headers-$(dpkg --print-architecture)
has_headers() { [ -d "/lib/modules/$kernel/build/" ] && [ -d "/lib/modules/$kernel/source/" ]; }
# A new machine's lists of packages may be old or empty, and would not name the headers of its own kernel.
has_headers || ! as_root || apt-get update --quiet=2
if ! has_headers && apt-cache show "linux-headers-$kernel" >/dev/null 2>&1; then
    headers=linux-headers-$kernel
fi

# package|why
packages="
python3-venv|makes the virtual environment
python3-bpfcc|compiles the kernel programs (bcc)
libbpf1|loads programs and maps into the kernel
iproute2|network namespaces of the demo and the lab tests
ethtool|offload settings of the lab's interfaces
procps|sysctl, for the lab's namespaces
openssl|makes the certificates of the demo's and the lab's servers
util-linux|nsenter and setpriv, for processes inside a namespace
gcc|compiles the sniffer's engine
libc6-dev|the C library's headers, for the engine
python3-dev|Python's headers, for the engine's binding
libvectorscan-dev|finds the sniffer's signatures in packets
"
has_headers || packages="$packages$headers|the kernel's headers, which the programs are compiled with
"

missing=()
while IFS='|' read -r package why; do
    [ -n "$package" ] || continue
    installed "$package" && continue
    missing+=("$package")
    say "needs $package: $why"
done <<<"$packages"

if [ "${#missing[@]}" -gt 0 ]; then
    as_root || fail "installing packages needs root. Run this once, then 'make setup' again:" \
        "  sudo apt-get update && sudo apt-get install --yes --no-install-recommends ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet=2
    apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! has_headers; then
    as_root || fail "kernel $kernel has no headers in /lib/modules/$kernel: run 'sudo scripts/setup.sh' once"
    build=$(find /usr/src -maxdepth 1 -name "linux-headers-*-$(dpkg --print-architecture)" | sort --version-sort | tail -n 1)
    common=$(find /usr/src -maxdepth 1 -name 'linux-headers-*-common' | sort --version-sort | tail -n 1)
    [ -n "$build" ] && [ -n "$common" ] || fail "no kernel headers in /usr/src after installing $headers"
    say "linking ${build##*/} to /lib/modules/$kernel: this kernel has no headers of its own"
    mkdir -p "/lib/modules/$kernel"
    ln -sfn "$build" "/lib/modules/$kernel/build"
    ln -sfn "$common" "/lib/modules/$kernel/source"
fi

# For tests only, so nothing else stops without it.
scripts/debian_tool.sh prometheus || say "without prometheus the tests that need one are left out"

build_engine() {
    # Does nothing when none of its sources changed.
    "$venv/bin/python" -m sluicegate_agent.dpi.build_native ||
        fail "the sniffer's engine was not built; the compiler's words are above. All else of sluicegate works without it"
}

# What is in .venv depends on these files alone.
wanted=$(cat requirements/dev.txt requirements/dpi.txt pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
if [ -x "$venv/bin/sluicegate" ] && [ "$(cat "$stamps/venv" 2>/dev/null)" = "$wanted $PWD" ]; then
    build_engine
    say "$venv is up to date"
    exit 0
fi

# Settings that would make Python or pip look elsewhere; the index that pip is set up for stays.
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV
if ! [ -x "$venv/bin/python" ] || ! grep -qx "home = /usr/bin" "$venv/pyvenv.cfg" ||
    ! grep -qx "command = .* $PWD/$venv" "$venv/pyvenv.cfg"; then
    say "making $venv with $($python --version)"
    # System site packages: bcc exists only there.
    "$python" -m venv --clear --system-site-packages "$PWD/$venv"
fi
say "installing the packages of requirements/dev.txt, each checked against its hash"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
# Without what they depend on: nfstream would bring pandas, of which nothing is used.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/dpi.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
"$venv/bin/python" -c 'import bcc' ||
    fail "$venv does not see bcc; is python3-bpfcc installed for $python?"
build_engine
mkdir -p "$stamps"
echo "$wanted $PWD" >"$stamps/venv"
say "done: $venv/bin/sluicegate"
