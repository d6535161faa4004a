#!/bin/sh
# Remove the releases that nothing needs: not KEPT, and not used by a process of this host. What is
# KEPT under another name (alias_release.sh) stays under both.
#
#   prune_releases.sh RELEASES_DIR [KEPT …]
#
# Prints the digests of those that it has removed.
set -eu

[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
releases=$1
shift

# Not while one is being installed.
exec 9>"$releases/.lock"
flock 9

# Somebody was started with it, has mapped a library of it, or has opened a file of it.
in_use() {
    grep -qsF "$1/" /proc/[0-9]*/environ /proc/[0-9]*/maps ||
        [ -n "$(find /proc/[0-9]*/fd -lname "$1/*" -print -quit 2>/dev/null)" ]
}

for name in "$@"; do
    if target=$(readlink "$releases/$name/bin"); then
        target=${target#../}
        set -- "$@" "${target%/bin}"
    fi
done

for release in "$releases"/*; do
    digest=${release##*/}
    case $digest in *[!0-9a-f]*) continue ;; esac
    case " $* " in *" $digest "*) continue ;; esac
    if in_use "$release"; then continue; fi
    rm -f "$release/.complete" # the first to go: what is half removed is not whole
    rm -rf "$release"
    echo "$digest"
done
