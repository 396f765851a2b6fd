#!/bin/sh
# The first program in netbe's initial RAM disk: finds the card that the machine booted from, asks
# DHCP, mounts the root by NFSv3 over TCP and starts the system there. A guest's root may be a directory
# of its host: it is mounted by 9P or virtiofs.
#
# It understands these words of the kernel's command line, and of the words that end the line wins:
#   nfsroot=[SERVER:]PATH[,OPTIONS]   the root; without it, DHCP's option 17
#   rootfstype=9p|virtiofs            the root is of the host: root= is its tag, rootflags= how it is mounted
#   BOOTIF=01-MAC                     the card; without it, the first one with a link
#   ro, rw                            how the root is mounted
#   netbe.mounts=usr,var/log          data sets to mount below the root, parents first
#   netbe.overlay=tmpfs|off           keep changes in memory, over a root that stays as it is
#   netbe.shell                       a shell on the console where something fails
#   init=PATH                         what to start, if not /sbin/init
#
# Nothing here ends: what fails is told on the console in one sentence, and tried again.

export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o mode=0755 devtmpfs /dev
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run
exec </dev/console >/dev/console 2>&1

say() {
    echo "netbe: $*"
}

# Tells what is wrong; then a shell, if there is to be one, or a pause that grows to half a minute.
pause=2
trouble() {
    say "$*"
    if [ -n "$shell" ]; then
        say "this shell is here because of netbe.shell; exit tries again"
        setsid cttyhack sh
        return
    fi
    say "trying again in $pause seconds; netbe.shell on the kernel's command line gives a shell"
    sleep "$pause"
    pause=$((pause * 2))
    [ "$pause" -le 30 ] || pause=30
}

# Tries a command for ten seconds, as cards and links take their time.
patiently() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || return 1
        # A busybox without fractions of seconds says so.
        sleep 0.2 2>/dev/null || sleep 1
    done
}

# A value of the lease.
lease() {
    cat "/lease/$1" 2>/dev/null
}

card= nfsroot= tag= type= flags= mounts= overlay=off shell= init=/sbin/init access=rw
set -f
for word in $(cat /proc/cmdline); do
    case $word in
        BOOTIF=*) card=$(echo "${word#BOOTIF=}" | tr A-F- a-f:) ;;
        nfsroot=*) nfsroot=${word#nfsroot=} ;;
        root=*) tag=${word#root=} ;;
        rootfstype=*) type=${word#rootfstype=} ;;
        rootflags=*) flags=,${word#rootflags=} ;;
        netbe.mounts=*) mounts=${word#netbe.mounts=} ;;
        netbe.overlay=*) overlay=${word#netbe.overlay=} ;;
        netbe.shell) shell=yes ;;
        init=*) init=${word#init=} ;;
        ro | rw) access=$word ;;
    esac
done
set +f
# PXE loaders put the type of hardware before the address.
case $card in ??:??:??:??:??:??:??) card=${card#??:} ;; esac
[ "$overlay" = off ] || access=ro
case $type in 9p | virtiofs) ;; *) type= ;; esac

# Loads the drivers of what is on the buses. A bus of its own, as virtio on PCI, is there only after
# its driver: its devices are found in the next round.
drivers() {
    for round in 1 2 3; do
        cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u | xargs -r modprobe -a -q
    done 2>/dev/null
}

# Finds the card to boot from: that of the given address, or else the first one with a link.
find_card() {
    for directory in /sys/class/net/*; do
        # 1 is Ethernet (linux/if_arp.h).
        [ "$(cat "$directory/type")" = 1 ] || continue
        interface=${directory##*/}
        mac=$(cat "$directory/address")
        if [ -n "$card" ]; then
            [ "$mac" != "$card" ] || return 0
        else
            ip link set "$interface" up
            ! has_link || return 0
        fi
    done
    return 1
}

has_link() {
    [ "$(cat "/sys/class/net/$interface/carrier" 2>/dev/null)" = 1 ]
}

cards() {
    for directory in /sys/class/net/*; do
        [ "$(cat "$directory/type")" != 1 ] || echo "${directory##*/} $(cat "$directory/address")"
    done | tr '\n' ' '
}

ask_dhcp() {
    udhcpc -i "$interface" -f -n -q -t 4 -T 2 -A 1 -s /bound -O rootpath -O mtu >/dev/null 2>&1
}

# Brings up the network, however long that takes.
network() {
    ip link set lo up
    drivers
    until patiently find_card; do
        found=$(cards)
        if [ -z "$found" ]; then
            trouble "no network card is found: make this RAM disk with --drivers all or --module"
        elif [ -n "$card" ]; then
            trouble "no network card is $card, as BOOTIF says; there are: $found"
        else
            trouble "no network card has a link: is a cable plugged in? There are: $found"
        fi
        drivers
    done
    ip link set "$interface" up
    until patiently has_link; do
        trouble "$interface ($mac) has no link: is its cable plugged in?"
    done
    until ask_dhcp; do
        trouble "no DHCP server gives $interface ($mac) an address: does netbe serve this network?"
    done
    hostname "$(lease hostname)" 2>/dev/null
}

# Brings up the network of a guest whose root is of its host, where somebody answers at once: the system may
# have one of its own.
own_network() {
    ip link set lo up
    drivers
    if patiently find_card && ip link set "$interface" up && patiently has_link && ask_dhcp; then
        hostname "$(lease hostname)" 2>/dev/null
        return
    fi
    say "no DHCP server gives this machine an address: the system has to find its network by itself"
}

# Finds out where the root is: sets server, path and options.
locate() {
    if [ -n "$type" ]; then
        server=host path=$tag
        return
    fi
    root=${nfsroot:-$(lease rootpath)}
    options=
    case $root in *,*) options=,${root#*,} ;; esac
    root=${root%%,*}
    case $root in
        /*) server=$(lease siaddr) path=$root ;;
        *:/*) server=${root%%:*} path=${root#*:} ;;
        *) return 1 ;;
    esac
    [ -n "$server" ]
}

# Mounts a path of the server's, or the host's directory: fetch PATH DIRECTORY.
fetch() {
    if [ -z "$type" ]; then
        nfs "$@"
        return
    fi
    said=$(mount -t "$type" -o "$access$flags" "$1" "$2" 2>&1) && return
    case $said in
        *"No such device"*) why="the kernel has no $type: make this RAM disk again" ;;
        *) why=${said##*failed: } ;;
    esac
    trouble "cannot mount the host's directory $1 by $type: $why"
    return 1
}

# Mounts a path of the server's: nfs PATH DIRECTORY.
nfs() {
    while sleep 15; do
        say "$server does not answer: is netbe running, and its TCP port 2049 open?"
    done &
    watch=$!
    said=$(mount -t nfs -o "$access,vers=3,proto=tcp,nolock$options,addr=$server" \
        "$server:$1" "$2" 2>&1)
    code=$?
    kill "$watch"
    [ "$code" != 0 ] || return 0
    case $said in
        *"No such file"*) why="the server does not export that path" ;;
        *"ermission denied"*) why="the server does not let this machine mount it" ;;
        *"onnection refused"*) why="no NFS server runs there" ;;
        *"No such device"*) why="the kernel has no NFS: make this RAM disk again" ;;
        *) why=${said##*failed: } ;;
    esac
    trouble "cannot mount $server:$1: $why"
    return 1
}

# Mounts a path of the server's for the system, with changes in memory if so told: put PATH DIRECTORY.
number=0
put() {
    if [ "$overlay" = off ]; then
        fetch "$1" "$2"
        return
    fi
    number=$((number + 1))
    lower=/run/netbe/root/$number changes=/run/netbe/changes
    mkdir -p "$lower" "$changes"
    fetch "$1" "$lower" || return
    # A file system of its own: that of /run has no devices and no setuid programs.
    grep -q " $changes " /proc/mounts || mount -t tmpfs -o mode=0755 tmpfs "$changes"
    mkdir -p "$changes/$number/upper" "$changes/$number/work"
    mount -t overlay -o \
        "lowerdir=$lower,upperdir=$changes/$number/upper,workdir=$changes/$number/work" \
        overlay "$2" && return
    umount "$lower"
    trouble "cannot lay an overlay over $server:$1: has the kernel a module overlay?"
    return 1
}

# Tells the system's own network programs that this card carries the root, or the address that the machine was
# given: none of them may take it down. The card goes by its address, because udev may give it another name.
hand_over() {
    {
        echo "DEVICE='$interface'"
        echo "PROTO='dhcp'"
        echo "IPV4ADDR='$(lease ip)'"
        echo "IPV4NETMASK='$(lease subnet)'"
        echo "IPV4GATEWAY='$(lease router)'"
        echo "HOSTNAME='$(lease hostname)'"
        echo "DNSDOMAIN='$(lease domain)'"
        set -- $(lease dns)
        echo "IPV4DNS0='$1'"
        echo "IPV4DNS1='$2'"
        echo "ROOTSERVER='$server'"
        echo "ROOTPATH='$path'"
    } >"/run/net-$interface.conf"
    # systemd.network(5): it renews the lease, and keeps the address whatever comes of that.
    mkdir -p /run/systemd/network
    {
        echo "[Match]"
        echo "MACAddress=$mac"
        echo "[Network]"
        echo "DHCP=ipv4"
        echo "KeepConfiguration=yes"
        echo "[DHCPv4]"
        echo "ClientIdentifier=mac"
    } >/run/systemd/network/10-netbe.network
    # NetworkManager.conf(5)
    mkdir -p /run/NetworkManager/conf.d
    {
        echo "[device-netbe]"
        echo "match-device=mac:$mac"
        echo "managed=0"
    } >/run/NetworkManager/conf.d/10-netbe.conf
    # ifup(8) leaves alone what is up already.
    mkdir -p /run/network
    echo "$interface=$interface" >/run/network/ifstate
}

if [ -n "$type" ]; then
    modprobe -q af_packet
    # Their devices have other names than the file systems.
    modprobe -a -q 9pnet_virtio 9p virtiofs
    own_network
else
    modprobe -a -q af_packet nfs nfsv3
    network
fi
until locate; do
    trouble "neither nfsroot= nor DHCP option 17 names a root as SERVER:PATH: say what $mac boots"
    ask_dhcp
done
say "root $server:$path${type:+ by $type} by $interface, $(lease ip)"
[ "$overlay" = off ] || modprobe -q overlay
case $overlay in
    off | tmpfs) ;;
    *)
        trouble "netbe.overlay=$overlay is neither tmpfs nor off: tmpfs is taken"
        overlay=tmpfs
        ;;
esac
# The lease is asked for again meanwhile: a server that is away for long may forget it.
until put "$path" /root; do ask_dhcp; done
for dataset in $(echo "$mounts" | tr ',' ' '); do
    until [ -d "/root/$dataset" ]; do
        trouble "$server:$path has no directory $dataset to mount the data set on"
    done
    until put "$path/$dataset" "/root/$dataset"; do ask_dhcp; done
done
# A link may be absolute, and leads somewhere only from inside.
until [ -x "/root$init" ] || [ -L "/root$init" ]; do
    trouble "$server:$path has no program $init"
done
# Without an address there is nothing to hand over.
[ -z "$(lease ip)" ] || hand_over
for directory in dev proc run sys; do
    if [ -d "/root/$directory" ]; then
        mount --move "/$directory" "/root/$directory"
    else
        say "$server:$path has no directory $directory"
        umount -l "/$directory"
    fi
done
exec switch_root /root "$init" "$@"
