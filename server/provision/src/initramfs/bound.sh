#!/bin/sh
# What udhcpc calls in netbe's initial RAM disk when it has a lease: sets the card up, and writes the
# lease into /lease, one file for each value.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip -4 address show dev "$interface" | grep -q "inet $ip/" || {
    ip -4 address flush dev "$interface"
    ip address add "$ip/${mask:-24}" broadcast + dev "$interface"
}
[ -z "$mtu" ] || ip link set dev "$interface" mtu "$mtu"
[ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
mkdir -p /lease
for name in ip subnet router dns domain hostname rootpath siaddr; do
    eval "value=\$$name"
    # These go into files that programs of the system read, some of them as shell.
    printf %s "$value" | tr -cd 'A-Za-z0-9 ._:/,=@%+-' >"/lease/$name"
done
