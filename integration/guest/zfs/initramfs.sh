#!/bin/busybox sh
# The first program of a guest with ZFS, in its initial RAM disk: puts a layer of memory over the
# read-only disk image of a whole Debian, and starts its init there.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev

fail() {
    echo "initramfs: $*" >/dev/console
    poweroff -f
}

while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

mkdir /image /memory
mount -t ext4 -o ro /dev/vda /image || fail "cannot mount the image"
mount -t tmpfs -o size=75% tmpfs /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/image,upperdir=/memory/upper,workdir=/memory/work overlay /root ||
    fail "cannot put memory over the image"
mkdir -p /root/lab
mount -t ext4 /dev/vdb /root/lab || fail "cannot mount the disk of the task"
cp /bin/busybox /root/usr/bin/busybox
cp /run-task /root/sbin/run-task
mount --move /dev /root/dev
umount /proc
exec switch_root /root /sbin/run-task
