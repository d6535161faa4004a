#!/bin/sh
# Install a release from wheels that lie here: no network, every hash checked, whole or not there.
#
#   install_release.sh RELEASES_DIR DIGEST WHEELS_DIR REQUIREMENTS CACHE_DIR PYTHON
#
# Makes the virtual environment RELEASES_DIR/DIGEST, with `spark` in it as a link to pyspark, and
# writes its file `.complete` last. Releases share files: one that differs in one wheel costs
# what that wheel costs. CACHE_DIR must be on the file system of RELEASES_DIR for that.
# Exit code 1: it failed, and says why. A damaged bundle is removed, so that it is sent again.
set -eu
umask 022

[ $# -eq 6 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
releases=$1 digest=$2 wheels=$3 requirements=$4 cache=$5 python=$6
release=$releases/$digest
store=$cache/wheels

stop() { printf 'error: %s\n' "$1" >&2; exit 1; }

case $digest in '' | *[!0-9a-f]*) stop "not a digest: $digest" ;; esac
python=$(command -v "$python") || stop "there is no $python on this host"
mkdir -p "$releases" "$cache"

# One installation at a time; the next sees what the one before has done.
exec 9>"$releases/.lock"
flock 9

if [ -e "$release/.complete" ]; then
    echo "release $digest is installed"
    exit 0
fi
began=$(date +%s)

# The comments `#: SHA256  BUNDLE/WHEEL` of the requirements say what must be here.
list=$(sed -n 's/^#: //p' "$requirements")
[ -n "$list" ] || stop "$requirements lists no wheels"
[ -d "$wheels" ] || stop "there is no directory $wheels"
listed() { printf '%s\n' "$list"; }

check_wheels() {
    # Python and not sha256sum, which does not use the instructions that processors have for it.
    bad=$("$python" -I - "$requirements" "$wheels" <<'PYTHON'
import hashlib, re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def is_whole(line):
    digest, wheel = line
    try:
        with open(Path(sys.argv[2], wheel), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


lines = re.findall(r"^#: (\w+)  (.+)$", Path(sys.argv[1]).read_text(), re.MULTILINE)
with ThreadPoolExecutor() as pool:
    for line, whole in zip(lines, pool.map(is_whole, lines)):
        if not whole:
            print(line[1])
PYTHON
    )
    [ -z "$bad" ] && return
    for wheel in $bad; do
        bundle=${wheel%%/*}
        rm -rf "$wheels/.bundle-$bundle" "${wheels:?}/$bundle"
    done
    stop "damaged or missing: $(echo "$bad" | tr '\n' ' ')— removed; the next run sends it again"
}

# Each wheel in a directory named by its hash, as a second name of the file in the bundle. The
# installer knows a wheel again by its path: one that comes in another bundle must be found there.
store_wheels() {
    listed | while read -r hash wheel; do
        stored=$store/$hash/${wheel##*/}
        if [ -e "$stored" ]; then
            ln -f "$stored" "$wheels/$wheel" 2>/dev/null || true # on another file system
        else
            mkdir -p "$store/$hash"
            ln "$wheels/$wheel" "$stored" 2>/dev/null || {
                cp "$wheels/$wheel" "$store/$hash/.aside"
                mv "$store/$hash/.aside" "$stored"
            }
        fi
    done
}

# What no release needs any more: other bundles, their wheels, and what was unpacked from them.
tidy() {
    find "$wheels" -maxdepth 1 -name '*.txt' ! -samefile "$requirements" -delete
    for directory in "$wheels"/*-*/; do
        bundle=$(basename "$directory")
        listed | grep -q "  $bundle/" || rm -rf "$wheels/.bundle-$bundle" "$directory"
    done
    for directory in "$store"/*/; do
        listed | grep -q "^$(basename "$directory") " || rm -rf "$directory"
    done
    for directory in "$cache"/archive-v*/*/; do
        [ -d "$directory" ] || continue
        [ -n "$(find "$directory" -type f -links +1 -print -quit)" ] || rm -rf "$directory"
    done
}

# Nothing of the caller's environment and settings: they could name an index.
uv() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$scratch" UV_PYTHON_DOWNLOADS=never \
        "$scratch/uv" "$@" --quiet --offline --no-config --cache-dir "$cache"
}

install_wheels() {
    set -- # one --find-links a wheel: another release's may have the same name
    for hash in $(listed | cut -d ' ' -f 1); do set -- "$@" --find-links "$store/$hash"; done
    uv pip install --python "$release/bin/python" --no-index "$@" --require-hashes --no-deps \
        --link-mode hardlink --requirements "$requirements"
}

# Bytecode for everybody, since only root may write here. Files that are the very ones of another
# release have theirs there already.
compile() {
    "$release/bin/python" -I - "$releases" "$release" <<'PYTHON'
import compileall, os, sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path

releases, release = map(Path, sys.argv[1:])
packages = next(release.glob("lib/python*/site-packages"))
complete = [mark.parent for mark in releases.glob("*/.complete")]
others = sorted(complete, key=lambda path: path.stat().st_mtime)[-1:]
for other in (path / packages.relative_to(release) for path in others):
    for source in packages.rglob("*.py"):
        theirs = other / source.relative_to(packages)
        try:
            if os.path.samefile(theirs, source):
                source.parent.joinpath("__pycache__").mkdir(exist_ok=True)
                os.link(cache_from_source(theirs), cache_from_source(source))
        except OSError:
            pass  # it is compiled below
# But for the tests that packages bring along, a quarter of all: nobody runs them here.
todo = [
    str(path)
    for path in packages.rglob("*.py")
    if "tests" not in path.relative_to(packages).parts
    and not os.path.exists(cache_from_source(path))
]
# Some packages bring files that are no Python of this version: those are passed over.
with ProcessPoolExecutor() as pool:
    list(pool.map(partial(compileall.compile_file, quiet=2), todo, chunksize=50))
PYTHON
}

check_wheels
rm -rf "$release" "$releases"/.install.*
scratch=$(mktemp -d "$releases/.install.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

installer=$(listed | sed -n 's|^[0-9a-f]*  \(uv-[^/]*/uv-.*\.whl\)$|\1|p')
[ -n "$installer" ] || stop "$requirements lists no installer"
"$python" -I - "$wheels/$installer" "$scratch/uv" <<'PYTHON'
import shutil, sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".data/scripts/uv"))
    with wheel.open(name) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
chmod 755 "$scratch/uv"

store_wheels
uv venv --python "$python" "$release" || stop "no environment for $python can be made"
install_wheels || stop "the packages cannot be installed"
compile
"$release/bin/python" -I -c '
import importlib.util, sys
names = "pyspark", "torch", "sentiment"
sys.exit(", ".join(n for n in names if not importlib.util.find_spec(n)) or None)
' || stop "installed, but these packages are not found"
spark=$(cd "$release" && echo lib/python*/site-packages/pyspark)
ln -s "$spark" "$release/spark"
chmod -R u+rwX,go+rX,go-w "$release"
# All on the disk before the mark is.
sync -f "$release"
date -u +%Y-%m-%dT%H:%M:%SZ > "$release/.complete"
tidy
count=$(grep -c -- --hash= "$requirements")
echo "release $digest: $count packages installed in $(($(date +%s) - began)) s"
