# Mounts the boot environment `scratch` for a suite of tests; the command that runs it follows.
#
# Both environments lie on one file system, so the client would take them for one mount, and what
# makes `scratch` read-only would make the root read-only: hence `nosharecache`.
server=$(sed -n 's/^\([^:]*\):.* \/ nfs .*/\1/p' /proc/mounts)
ln -sf /proc/mounts /etc/mtab
mkdir -p /scratch
mount -t nfs -o "vers=3,proto=tcp,nolock,nosharecache,addr=$server" "$server:/be/scratch" /scratch || exit 1
ln -sf busybox /bin/which
export NO_COLOR=1
# nfstest wants its own address, and finds none by a name without a name server.
HOSTNAME=$(ip -4 -o address show scope global | sed 's/.*inet \([^/]*\).*/\1/')
export HOSTNAME
