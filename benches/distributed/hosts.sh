#!/usr/bin/env bash
# hosts.sh RATE PROGRAM [ARGUMENT...]: runs a program by mpirun as two ranks on two hosts of this machine's
# own: network namespaces (host-a, host-b) joined by a cable of RATE bits a second each way (1gbit, 100mbit,
# ...; "none" for no limit). Each rank has one core. Prints on stderr the bytes that went each way.
#
# In the program, eth0 is the cable, /sys/class/net/eth0/statistics counts what passes, and MASTER_ADDR,
# MASTER_PORT and GLOO_SOCKET_IFNAME are set for torch.distributed.
#
# Needs Linux, root, ip, tc (Debian: iproute2), unshare, taskset (util-linux) and Open MPI (openmpi-bin).
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "hosts.sh: $1" >&2
    exit 1
}
[ $# -ge 2 ] || fail "usage: hosts.sh RATE PROGRAM [ARGUMENT...]"
for tool in ip tc mpirun unshare taskset; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
[ "$(id -u)" = 0 ] || fail "network namespaces need root: run it with sudo"
mpirun --version 2>/dev/null | grep -q 'Open MPI' || fail "mpirun is not Open MPI's"
rate=$1
shift

a=host-a-$$ b=host-b-$$ dir=$(mktemp -d)
remove() {
    trap '' INT TERM HUP
    for host in $a $b; do
        pids=$(ip netns pids $host 2>/dev/null) && [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
        ip netns delete $host 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

ip netns add $a
ip netns add $b
ip link add eth0 netns $a type veth peer name eth0 netns $b ||
    fail "cannot join two network namespaces: is this a container?"
for host in "$a 10.77.0.1" "$b 10.77.0.2"; do
    read -r name address <<<"$host"
    ip -n $name address add "$address/24" dev eth0
    ip -n $name link set lo up
    ip -n $name link set eth0 up
    if [ "$rate" != none ]; then
        tc -n $name qdisc add dev eth0 root tbf rate "$rate" burst 128kb latency 50ms
    fi
done

# What Open MPI starts its other half with, in place of ssh: HOST COMMAND...
cat >"$dir/agent" <<END
#!/bin/sh
shift
exec ip netns exec $b unshare --uts sh -c "hostname host-b; \$*"
END
# Each rank's core: that of its number, of those that this program may use.
cat >"$dir/pinned" <<'END'
#!/bin/sh
cores=$(taskset -cp $$ | sed 's/.*: //' | tr , '\n' |
    awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')
core=$(echo "$cores" | sed -n "$((OMPI_COMM_WORLD_RANK % $(echo "$cores" | wc -l) + 1))p")
exec taskset -c "$core" "$@"
END
chmod +x "$dir/agent" "$dir/pinned"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export MASTER_ADDR=10.77.0.1 MASTER_PORT=29500 GLOO_SOCKET_IFNAME=eth0
code=0
ip netns exec $a unshare --uts sh -c 'hostname host-a; exec "$@"' sh \
    mpirun -n 2 --host 10.77.0.1,10.77.0.2 --bind-to none \
    --mca plm_rsh_agent "$dir/agent" --mca btl tcp,self \
    --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 \
    "$dir/pinned" "$@" || code=$?
for host in $a $b; do
    bytes=$(ip netns exec $host cat /sys/class/net/eth0/statistics/tx_bytes)
    echo "${host%-*} sent $bytes bytes over the cable" >&2
done
exit $code
