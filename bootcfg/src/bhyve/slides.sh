#!/bin/sh
# Runs head under bhyve(8) until it is switched off.
# Its console is /dev/nmdm-head.1B: `cu -l /dev/nmdm-head.1B`.
# bhyve exits with 0 when the guest reboots, with 1 or 2 when it is off, and with more when
# it failed. SIGTERM to bhyve is the guest's power button.

if [ -e /dev/vmm/head ]; then
    echo 'there is a virtual machine head already: if nothing runs it, bhyvectl --destroy --vm=head frees it' >&2
    exit 2
fi
kldload -n vmm nmdm || exit
tap=$(ifconfig tap create) || exit
trap 'bhyvectl --destroy --vm=head 2>/dev/null; ifconfig $tap destroy' EXIT
trap 'exit 1' HUP INT TERM
ifconfig bridge0 addm $tap || exit
while :; do
    ifconfig $tap up || exit
    bhyveload \
        -c /dev/nmdm-head.1A \
        -m 1024M \
        -h /ROOT/head \
        -e boot.netif.hwaddr=02:01:02:03:04:05 \
        -e boot.netif.ip=192.168.2.202 \
        -e boot.netif.netmask=255.255.255.0 \
        -e boot.nfsroot.nfshandle=X6310X \
        -e boot.nfsroot.nfshandlelen=2 \
        -e boot.nfsroot.server=192.168.2.1 \
        -e boot.nfsroot.options=nolockd \
        -e boot.nfsroot.path=/ROOT/head \
        -e vfs.root.mountfrom=nfs:192.168.2.1:/ROOT/head \
        -e vfs.root.mountfrom.options=rw \
        -e dhcp.host-name=head \
        head || exit
    bhyve \
        -c 2 \
        -m 1024M \
        -A \
        -H \
        -P \
        -s 0,hostbridge \
        -s 2,virtio-net,$tap,mac=02:01:02:03:04:05 \
        -s 31,lpc \
        -l com1,/dev/nmdm-head.1A \
        head
    status=$?
    bhyvectl --destroy --vm=head
    [ $status -eq 0 ] || break
done
[ $status -le 2 ]
