#!/bin/sh
# The init of a guest with ZFS: runs the script on the disk of the task, writes its log and status
# there, and switches the machine off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ln -sf /proc/self/fd /dev/fd
ip link set lo up
cd /lab || busybox poweroff -f
if modprobe zfs; then
    echo "guest: ready after $(cut -d ' ' -f 1 /proc/uptime) s"
    # What is shown on the serial line is only for whoever waits; the log is what counts.
    { sh ./task; echo $? >task.status; } 2>&1 | tee log
else
    echo "the module zfs cannot be loaded" | tee log
fi
{
    echo "task=$(cat task.status)"
    echo "zfs=$(cat /sys/module/zfs/version)"
    echo "kernel=$(uname -sr)"
} >marker
sync
busybox poweroff -f
