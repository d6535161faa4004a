#!/bin/sh
# SIMULATED nvidia-smi. There is no GPU behind it and it computes nothing: it only lets tests of
# GPU *scheduling* run on hosts without a card. A test that wants a host to look like one with N
# cards does:
#     echo N > /etc/simulated-gpus
#     ln -s /usr/local/lib/simulated-nvidia-smi /usr/local/bin/nvidia-smi
# Without the file it fails as the real tool does when its driver is not loaded. More files:
#     echo '0 3g.20gb' >> /etc/simulated-gpus.mig    a MIG instance of card 0
#     echo 1 >> /etc/simulated-gpus.gone             card 1 has vanished, the others stay
#     echo 0 >> /etc/simulated-gpus.busy             somebody uses three quarters of card 0's memory
#     touch /etc/simulated-gpus.hang                 it hangs, as the real one with a dead card
# SIMULATED_GPUS is another place of these files, for tests on this machine.
place=${SIMULATED_GPUS:-/etc/simulated-gpus}
memory_mib=24564
driver=535.247.01-SIMULATED

if [ -e "$place.hang" ]; then
    sleep 3600
fi
if [ ! -r "$place" ]; then
    echo "NVIDIA-SMI (SIMULATED) has failed because it couldn't communicate with the NVIDIA" \
        "driver. Make sure that the latest NVIDIA driver is installed and running."
    echo
    exit 9
fi
count=$(cat "$place")

query=
header=1
units=1
list=
for word in "$@"; do
    case $word in
        --query-gpu=*) query=${word#*=} ;;
        --format=*)
            case ,${word#*=}, in *,noheader,*) header= ;; esac
            case ,${word#*=}, in *,nounits,*) units= ;; esac
            ;;
        -L | --list-gpus) list=1 ;;
        *)
            echo "SIMULATED nvidia-smi: no answer is written for '$word'" >&2
            exit 2
            ;;
    esac
done

has() { # has FILE NUMBER: whether one of the file's lines is this number
    [ -r "$place.$1" ] && grep -qx "$2" "$place.$1"
}

used() { # used INDEX
    if has busy "$1"; then echo $((memory_mib / 4 * 3)); else echo 0; fi
}

field() { # field NAME INDEX
    case $1 in
        index) echo "$2" ;;
        name) echo "SIMULATED GPU" ;;
        uuid) printf 'GPU-51300000-0000-0000-0000-%012d\n' "$2" ;;
        memory.total) echo "$memory_mib${units:+ MiB}" ;;
        memory.free) echo "$((memory_mib - $(used "$2")))${units:+ MiB}" ;;
        memory.used) echo "$(used "$2")${units:+ MiB}" ;;
        utilization.gpu) echo "0${units:+ %}" ;;
        driver_version) echo "$driver" ;;
        compute_cap) echo "8.9" ;;
        *)
            echo "Field \"$1\" is not a valid field to query." >&2
            exit 2
            ;;
    esac
}

instances() { # instances INDEX: its lines below the card's, as `nvidia-smi -L` has them
    [ -r "$place.mig" ] || return 0
    device=0
    while read -r card profile; do
        [ "$card" = "$1" ] || continue
        printf '  MIG %-15s Device %2d: (UUID: MIG-51300000-0000-0000-%04d-%012d)\n' \
            "$profile" "$device" "$device" "$card"
        device=$((device + 1))
    done < "$place.mig"
}

gpu=0
shown=0
if [ -n "$header$query" ] && [ -n "$header" ] && [ -z "$list" ]; then
    echo "$query" | sed 's/,/, /g; s/memory\.[a-z]*/& [MiB]/g; s/utilization\.gpu/& [%]/g'
fi
while [ "$gpu" -lt "$count" ]; do
    if has gone "$gpu"; then
        gpu=$((gpu + 1))
        continue
    fi
    if [ -n "$query" ]; then
        line=
        for name in $(echo "$query" | tr ',' ' '); do
            value=$(field "$name" "$gpu") || exit 2
            line="${line:+$line, }$value"
        done
        echo "$line"
    else
        echo "GPU $gpu: SIMULATED GPU (UUID: $(field uuid "$gpu"))"
        instances "$gpu"
    fi
    shown=$((shown + 1))
    gpu=$((gpu + 1))
done
if [ "$shown" = 0 ]; then
    echo "No devices were found"
    exit 6
fi
