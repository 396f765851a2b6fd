# Starts systemd as the first process of the Debian in the directory $1, in namespaces of its own. Its control
# group is below $2.
echo $$ >"$2/cgroup.procs"
# shellcheck disable=SC2016
exec unshare --cgroup --mount --pid --fork --kill-child --net --uts --ipc sh -euc '
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
# What the whole host has it only reads.
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
	set -- $device
	mknod -m 666 "$root/dev/$1" c "$2" "$3"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ip link set lo up
ip link add s0 type veth peer name s1
ip link set s1 up
ip address add 10.88.0.1/24 dev s0
ip link set s0 up
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" \
	/lib/systemd/systemd --unit=multi-user.target
' sh "$1"
