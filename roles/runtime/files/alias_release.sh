#!/bin/sh
# Let a release be found under the name of the master's, which has another build of torch.
#
#   alias_release.sh RELEASES_DIR DIGEST ALIAS
#
# A job names its Python by the release that its driver runs from, on every host. Makes the directory
# RELEASES_DIR/ALIAS, with links into RELEASES_DIR/DIGEST but for the file `.complete`: nobody takes
# it for a release, and to install one of that name replaces it. A release of that name, which this
# host has had before, is replaced, too. Prints what it has made, nothing where it was there.
set -eu
umask 022

[ $# -eq 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
releases=$1 digest=$2 alias=$3

for name in "$digest" "$alias"; do
    case $name in '' | *[!0-9a-f]*) printf 'error: not a digest: %s\n' "$name" >&2; exit 1 ;; esac
done

# Not while one is being installed.
exec 9>"$releases/.lock"
flock 9

if [ "$(readlink "$releases/$alias/bin")" = "../$digest/bin" ]; then exit 0; fi
# A name that the next installation tidies away, should this be killed.
scratch=$(mktemp -d "$releases/.install.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$scratch/new"
for entry in "$releases/$digest"/*; do
    ln -s "../$digest/${entry##*/}" "$scratch/new/"
done
# Processes that run from a release of that name find its files under the same paths.
if [ -e "$releases/$alias" ]; then mv -T "$releases/$alias" "$scratch/old"; fi
mv -T "$scratch/new" "$releases/$alias"
echo "$alias: as $digest"
