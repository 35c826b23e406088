#!/bin/sh
# Prepares this checkout for building. `bootstrap.sh python` installs Debian packages (only missing
# ones), unpacks two more below build/ and fills .venv with exactly the versions of
# requirements/dev.txt; `bootstrap.sh rust` sees to the Rust toolchain that rust-toolchain.toml pins.
set -eu
cd "$(dirname "$0")/.."

# To build: a C compiler for libzstd, libfuse for pyfuse3. To test: mounts, other OCI tools, attributes,
# an emulated machine. Its kernel and a registry are unpacked only: installed, they would change the host.
BUILD="gcc libc6-dev pkg-config libfuse3-dev python3-dev python3-venv"
TEST="acl attr bubblewrap buildah busybox-static e2fsprogs fuse-overlayfs fuse3 git jq lxc mmdebstrap podman qemu-system-x86 runc skopeo systemd-container uidmap umoci"
PYTHON=${PYTHON:-python3}

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

missing_packages() {
    for package in $BUILD $TEST; do
        state=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1) || true
        [ "$state" = installed ] || printf ' %s' "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

install_packages() {
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system; these have to be there under their local names: $BUILD $TEST"
        return
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    say "missing Debian packages:$missing"
    if ! can_be_root; then
        say "cannot become root, so they stay missing; install them with: apt-get install$missing"
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { as_root apt-get -qq update && as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null; } ||
        say "apt-get failed, so some of these may stay missing:$missing"
}

unpack_packages() {
    [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || return 0
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
    for package in ${kernel:-linux-image-cloud-amd64} docker-registry; do
        unpack "$package" || say "apt-get cannot download $package, so some tests will be skipped"
    done
}

unpack() {
    case $1 in linux-image-*) place=build/debian/kernel ;; *) place=build/debian/$1 ;; esac
    [ ! -d "$place" ] || return 0
    # What a broken-off run left is in no one's way.
    rm -rf "$place.new" && mkdir -p "$place.new/package"
    (cd "$place.new/package" && apt-get -qq download "$1" >/dev/null 2>&1) || return 1
    dpkg-deb -x "$place.new/package"/*.deb "$place.new" && rm -r "$place.new/package" && mv "$place.new" "$place"
}

check_rust() {
    command -v cargo >/dev/null ||
        die "no cargo: install Rust with rustup (https://rustup.rs); 'make wheel-pure' needs none"
    cargo --version >/dev/null 2>&1 && return
    say "installing the Rust toolchain that rust-toolchain.toml pins"
    rustup toolchain install || die "rustup could not install it"
}

make_venv() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$PYTHON is older than Python 3.11"
    [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || die "$PYTHON cannot make a virtual environment"
    say "installing requirements/dev.txt into .venv"
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
}

case ${1:-} in
    python) install_packages; unpack_packages; make_venv ;;
    rust) check_rust ;;
    *) die "usage: bootstrap.sh python|rust" ;;
esac
