#!/bin/sh
# Called by lxc-create, on behalf of vagrant-lxc, to make a container from the box. Instead of
# unpacking a tarball for each host, every host is an overlay over the one root file system that
# lies beside the box: made in no time, reset by emptying one folder.
set -eu
box=$(dirname "$0")
words=$(getopt -o '' -l name:,path:,rootfs:,tarball:,config: -- "$@")
eval set -- "$words"
while [ "$1" != -- ]; do
    case $1 in
        --name) name=$2 ;;
        --path) path=$2 ;;
    esac
    shift 2
done
mkdir -p "$path/disk"
{
    cat "$box/lxc-config"
    echo "lxc.uts.name = $name"
    echo "lxc.rootfs.path = overlay:$box/rootfs:$path/disk"
} >>"$path/config"
