#!/bin/sh
# SIMULATED nvidia-smi. There is no GPU behind it and it computes nothing: it only lets tests of
# GPU *scheduling* run on hosts without a card. A test that wants a host to look like one with N
# cards does:
#     echo N > /etc/simulated-gpus
#     ln -s /usr/local/lib/simulated-nvidia-smi /usr/local/bin/nvidia-smi
# Without the file it fails as the real tool does when its driver is not loaded.
memory_mib=24564
driver=535.247.01

if [ ! -r /etc/simulated-gpus ]; then
    echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure" \
        "that the latest NVIDIA driver is installed and running."
    echo
    exit 9
fi
count=$(cat /etc/simulated-gpus)

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
            echo "simulated nvidia-smi: no answer is written for '$word'" >&2
            exit 2
            ;;
    esac
done

field() { # field NAME INDEX
    case $1 in
        index) echo "$2" ;;
        name) echo "Simulated GPU" ;;
        uuid) printf 'GPU-51300000-0000-0000-0000-%012d\n' "$2" ;;
        memory.total | memory.free) echo "$memory_mib${units:+ MiB}" ;;
        memory.used) echo "0${units:+ MiB}" ;;
        utilization.gpu) echo "0${units:+ %}" ;;
        driver_version) echo "$driver" ;;
        compute_cap) echo "8.9" ;;
        *)
            echo "Field \"$1\" is not a valid field to query." >&2
            exit 2
            ;;
    esac
}

gpu=0
if [ -n "$header$query" ] && [ -n "$header" ] && [ -z "$list" ]; then
    echo "$query" | sed 's/,/, /g; s/memory\.[a-z]*/& [MiB]/g; s/utilization\.gpu/& [%]/g'
fi
while [ "$gpu" -lt "$count" ]; do
    if [ -n "$query" ]; then
        line=
        for name in $(echo "$query" | tr ',' ' '); do
            value=$(field "$name" "$gpu") || exit 2
            line="${line:+$line, }$value"
        done
        echo "$line"
    else
        echo "GPU $gpu: Simulated GPU (UUID: $(field uuid "$gpu"))"
    fi
    gpu=$((gpu + 1))
done
