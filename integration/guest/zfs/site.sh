# What the scripts share that have netbe serve on ZFS: it is put in front of them.
set -eu
export NETBE_STORE=zfs:tank/be NETBE_STATE=/var/lib/netbe
trees=$NETBE_STATE/zfs/tank%be/mnt
# Each command is told with the seconds that the guest has been on, wherever its output goes.
exec 3>&1
tell() { echo "$* ($(cut -d ' ' -f 1 /proc/uptime) s)" >&3; }
netbe() {
    tell "  netbe $*"
    ./netbe "$@"
}

server=
fail() {
    echo "FAIL: $*"
    exit 1
}
mend() { :; }
leave() {
    status=$?
    [ $status = 0 ] || { echo "netbe's last words:" && tail -n 30 serve.log && mend; }
    if [ -n "$server" ] && ! kill "$server" 2>/dev/null; then
        ended=0
        wait "$server" || ended=$?
        echo "netbe had ended with status $ended; the kernel's last words:"
        dmesg | tail -n 30
    fi
    exit $status
}
# Waits until a command succeeds.
await() {
    for _ in $(seq 900); do
        if "$@"; then return; fi
        sleep 0.2
    done
    fail "not within three minutes: $*"
}
# A verb that must be refused, in words that have $1 in them.
refused() {
    words=$1 && shift
    if said=$(netbe "$@" 2>&1); then fail "netbe $* was done: $said"; fi
    echo "$said"
    case $said in *"$words"*) ;; *) fail "netbe $* does not say: $words" ;; esac
}
# A command's output must have a line in which words are found in this order.
shows() {
    pattern=$1 && shift
    said=$("$@")
    echo "$said" | grep -q "$pattern" || fail "no $pattern in the output of $*: $said"
}
serve() {
    tell "  netbe serve"
    : >serve.log
    ./netbe serve --interface eth0 --mode serve --range 10.77.0.50-10.77.0.99 >>serve.log 2>&1 &
    server=$!
    await grep -q '^  DHCP ' serve.log
}
step() { tell "step: $*"; }
# The end of a script that came to it: netbe ends, and what it served can be let go of.
finish() {
    kill "$server"
    wait "$server"
    server=
    trap - EXIT
    zpool export tank
    step "done"
}

trap leave EXIT
modprobe virtio_net
ip address add 10.77.0.2/24 dev eth0
ip link set eth0 up
