#!/bin/busybox sh
# What udhcpc calls in the initial RAM disk; it passes the lease in its environment.
[ "$1" = bound ] || exit 0
ip address add "$ip/${mask:-24}" dev "$interface"
[ -z "$router" ] || ip route add default via "${router%% *}"
{
    echo "ip=$ip"
    echo "rootpath='$rootpath'"
    echo "hostname='$hostname'"
} >/run/lease
