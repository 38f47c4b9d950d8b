#!/usr/bin/env bash
# debian_tool.sh PACKAGE: unpacks a Debian package into .tools/PACKAGE, where its programs are in usr/bin. Nothing is
# installed: no service starts, no user is made, and dependencies are not resolved, so it is for programs that need libc
# at most. apt checks what it downloads against Debian's signatures. Safe to run again; needs no root.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$#" -eq 1 ] && [[ "$1" =~ ^[a-z0-9][a-z0-9+.-]+$ ]] || {
    echo "usage: scripts/debian_tool.sh PACKAGE" >&2
    exit 2
}
package=$1
folder=.tools/$package
stamp=$folder/.version

fail() {
    printf 'debian_tool: %s\n' "$@" >&2
    exit 1
}

candidate() { apt-cache policy "$package" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" {print $2}'; }
refresh() { [ "$(id -u)" -eq 0 ] && apt-get update --quiet=2; }

wanted=$(candidate)
have=$(cat "$stamp" 2>/dev/null || true)
# What is there will do when apt knows nothing better, as without a network.
if [ -n "$have" ] && { [ -z "$wanted" ] || [ "$wanted" = "$have" ]; }; then
    exit 0
fi
if [ -z "$wanted" ]; then
    refresh && wanted=$(candidate)
    [ -n "$wanted" ] ||
        fail "apt does not know the package $package. Run this once, then 'make setup' again:" "  sudo apt-get update"
fi

mkdir -p .tools
download=$(mktemp -d .tools/download.XXXXXX)
trap 'rm -rf "$download"' EXIT
# apt as root downloads as its own user, which may have no way to this folder; it says so and goes on.
fetch() { (cd "$download" && apt-get download --quiet=2 "$package=$wanted" 2>&1 | sed '/unsandboxed/d' >&2); }
fetch || { refresh && wanted=$(candidate) && fetch; } ||
    fail "could not download $package $wanted. If the list of packages is old: sudo apt-get update"
dpkg-deb --extract "$download"/*.deb "$download/unpacked"
echo "$wanted" >"$download/unpacked/.version"
rm -rf "$folder"
mv "$download/unpacked" "$folder"
printf 'debian_tool: %s %s is in %s\n' "$package" "$wanted" "$folder"
