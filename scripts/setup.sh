#!/usr/bin/env bash
# Installs the Debian 12 packages that the build needs, only those that are missing, and selects the
# OpenMP variant of OpenBLAS. Does nothing when all is there. Usage: scripts/setup.sh
set -euo pipefail
exec </dev/null

packages=(build-essential cmake ninja-build pkg-config python3 ca-certificates git libeigen3-dev
  libopenblas-openmp-dev liblapacke-dev libdnnl-dev libopenmpi-dev openmpi-bin libhdf5-dev
  libyaml-cpp-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libpcre2-dev
  libutf8proc-dev libzstd-dev zlib1g-dev libxxhash-dev libgtest-dev libgmock-dev libbenchmark-dev)

say() { echo "setup: $*"; }
fail() { echo "setup: error: $*" >&2; exit 1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# sudo may ask for the password on a terminal, and only there.
need_root() {
  [ "$(id -u)" = 0 ] && return
  command -v sudo >/dev/null || fail "root rights are needed to $1; run scripts/setup.sh as root once"
  { [ -t 2 ] && sudo -v; } || sudo -n true 2>/dev/null ||
    fail "sudo needs a password to $1; run scripts/setup.sh in a terminal once"
}

missing_packages() {
  comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
      sed -n 's/^installed //p' | sort -u)
}

# Requires: a log of apt-get. Its first error, without the "E:".
first_error() { sed -n 's/^E: *//p' "$1" | head -n 1; }

install_missing() {
  need_root "install ${missing[*]}"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  say "updating the package lists"
  as_root apt-get update -qq >"$log" 2>&1 ||
    say "warning: apt-get update: $(first_error "$log"); going on with the lists at hand"
  say "installing ${#missing[@]} packages: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >"$log" 2>&1 || true
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} = 0 ] || fail "apt-get cannot install ${missing[*]}: $(first_error "$log")"
}

# The pthread and serial variants of OpenBLAS fight the program's own threads, and they win the
# automatic choice where several are installed.
select_openmp_openblas() {
  local name value choice
  while read -r name _ value; do
    case "$value" in
      */openblas-openmp/*) continue ;;
      */openblas-*) ;;
      *) continue ;;
    esac
    choice=$(update-alternatives --list "$name" | grep -m 1 /openblas-openmp/ || true)
    [ -n "$choice" ] || continue
    need_root "select the OpenMP variant of OpenBLAS"
    say "selecting the OpenMP variant of OpenBLAS for ${name%%-*}"
    as_root update-alternatives --set "$name" "$choice" >/dev/null ||
      fail "update-alternatives cannot select $choice"
  done < <(update-alternatives --get-selections | grep -E '^lib(openblas|blas|lapack)')
}

command -v apt-get >/dev/null ||
  fail "apt-get not found: Debian 12 is expected; elsewhere install the likes of: ${packages[*]}"
mapfile -t missing < <(missing_packages)
[ ${#missing[@]} = 0 ] || install_missing
select_openmp_openblas
say "all ${#packages[@]} packages are installed"
