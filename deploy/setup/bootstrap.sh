#!/usr/bin/env bash
# Make this checkout ready to run: Java, and a virtual environment with the locked packages.
# Run by every Makefile target; costs nothing when nothing has changed.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
venv="$root/.venv"
locks=(job/requirements.lock deploy/requirements.lock tests/requirements.lock)

say() { printf '%s\n' "$*" >&2; }
stop() { say "error: $1"; say "  do:  $2"; exit 3; }

# The exact command that installs OS packages, run where the caller may, else shown.
install_packages() { # REASON PACKAGE...
    local reason=$1; shift
    local command="apt-get update && apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        stop "$reason" "install $* with this system's package manager, then run the same command again"
    elif [ "$(id -u)" = 0 ]; then
        say "[set-up] $reason: installing $* with apt"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "$@" >&2 \
            || stop "apt could not install $*" "see apt's messages above"
    elif sudo -n true 2>/dev/null; then
        say "[set-up] $reason: installing $* with sudo apt"
        sudo -n sh -c "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --no-install-recommends $*" >&2 \
            || stop "apt could not install $*" "see apt's messages above"
    else
        stop "$reason" "sudo sh -c '$command'    (then run the same command again)"
    fi
}

python_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null && python_new_enough "$candidate"; then
            printf '%s\n' "$candidate"; return
        fi
    done
    stop "no Python of version 3.11 or later" "install one (Debian 12, Ubuntu 24.04: sudo apt-get install -y python3), or name it: PYTHON=/path/to/python3.11 make …"
}

java_version() { # the major version of the Java that Spark would start, 0 for none
    local java=java
    [ -n "${JAVA_HOME:-}" ] && java="$JAVA_HOME/bin/java"
    { "$java" -version 2>&1 || true; } | sed -nE 's/.* version "([0-9]+).*/\1/p' | head -n 1 | grep . || echo 0
}

ensure_java() {
    local found; found=$(java_version)
    [ "$found" -ge 17 ] && return
    [ -z "${JAVA_HOME:-}" ] || stop "JAVA_HOME=$JAVA_HOME holds no Java 17 or later" "unset JAVA_HOME, or point it at one"
    install_packages "Spark needs Java 17 or later (found: ${found/#0/none})" openjdk-17-jre-headless
    [ "$(java_version)" -ge 17 ] || stop "java is still older than 17" "sudo update-alternatives --config java"
}

ensure_venv() {
    local python; python=$(find_python)
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        install_packages "$python has no venv module" "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    # A virtual environment half made, moved, or of a removed Python is made anew.
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null || ! python_new_enough "$venv/bin/python"; then
        say "[set-up] making the virtual environment .venv"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
}

pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@" 2> >(grep -v 'is ignored: it is neither' >&2); }

# The CPU build where there is no NVIDIA GPU and pip knows a place that holds it; else the registry's.
install_torch() {
    if ! command -v nvidia-smi >/dev/null && pip_install --require-hashes -r job/requirements-cpu.lock 2>/dev/null; then
        return
    fi
    say "[set-up] torch's CPU build is not in reach of pip here: installing the CUDA build (some GB)"
    pip_install --require-hashes -r job/requirements-cuda.lock
}

install_locked() {
    local stamp="$venv/.installed" wanted
    # The folder is part of the stamp: an editable install names it.
    wanted=$(cd "$root" && { echo "$root"; cat "${locks[@]}" job/requirements-c*.lock job/pyproject.toml deploy/pyproject.toml; } | sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    say "[set-up] installing the locked packages (the first time: about 1 GB, some minutes)"
    cd "$root"
    # pyspark comes as source: what builds it is itself locked.
    pip_install --require-hashes -r tests/requirements.lock
    pip_install --require-hashes --no-build-isolation -r job/requirements.lock -r deploy/requirements.lock
    install_torch
    pip_install --no-build-isolation -e job -e deploy
    "$venv/bin/python" -m pip check --quiet >&2 || stop "the installed packages do not fit together" "rm -rf .venv, then run the same command again"
    printf '%s\n' "$wanted" > "$stamp"
}

# Spark's classes as they lie in memory: every later command starts some seconds sooner.
archive_classes() {
    local stamp="$venv/.classes" wanted
    wanted=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1; cat "$venv/.installed")
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    say "[set-up] keeping Spark's classes for quick starts"
    "$venv/bin/python" -m sentiment.jvm || say "[set-up] without them: commands work, and start some seconds later"
    printf '%s\n' "$wanted" > "$stamp"
}

ensure_java
ensure_venv
install_locked
archive_classes
