#!/bin/busybox sh
# The first program of a guest, in its initial RAM disk: brings the network up by DHCP on the
# interface that it booted from, mounts the root that the kernel's command line names, or else the
# one that DHCP names (option 17), by NFSv3 over TCP, and starts /sbin/init there.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

fail() {
    echo "initramfs: $*" >/dev/console
    poweroff -f
}

while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

bootif= nfsroot=
for word in $(cat /proc/cmdline); do
    case $word in
        BOOTIF=*) bootif=${word#BOOTIF=01-} ;;
        nfsroot=*) nfsroot=${word#nfsroot=} ;;
    esac
done
bootif=$(echo "$bootif" | tr 'A-F-' 'a-f:')

interface=
for directory in /sys/class/net/*; do
    [ "${directory##*/}" = lo ] && continue
    if [ -z "$bootif" ] || [ "$(cat "$directory/address")" = "$bootif" ]; then
        interface=${directory##*/}
        break
    fi
done
[ -n "$interface" ] || fail "no network interface has the address $bootif"

ip link set lo up
ip link set "$interface" up
udhcpc -i "$interface" -f -q -n -t 10 -T 1 -O rootpath -s /lease || fail "no DHCP answer"
. /run/lease

root=${nfsroot:-$rootpath}
[ -n "$root" ] || fail "neither nfsroot= nor DHCP option 17 names a root"
server=${root%%:*}
rest=${root#*:}
path=${rest%%,*}
options=vers=3,proto=tcp,nolock
[ "$rest" = "$path" ] || options=${rest#*,}
access=ro
case " $(cat /proc/cmdline) " in *" rw "*) access=rw ;; esac

echo "initramfs: root $server:$path ($options) by $interface $ip"
mount -t nfs -o "$access,$options,addr=$server" "$server:$path" /root ||
    fail "cannot mount $server:$path"
hostname "${hostname:-guest}"
mount --move /dev /root/dev
umount /sys
umount /proc
exec switch_root /root /sbin/init
