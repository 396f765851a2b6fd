# Asks for locks on the boot environment `scratch`, mounted without `nolock`, then with it. The guest has
# what Linux's client wants for locks: a port mapper, and statd to watch the server.
server=$(sed -n 's/^\([^:]*\):.* \/ nfs .*/\1/p' /proc/mounts)
mount -t tmpfs tmpfs /run
mkdir -p /scratch /local /var/lib/nfs/sm /var/lib/nfs/sm.bak
rpcbind || exit 1
rpc.statd --no-notify || exit 1
# One file system for the client otherwise, of which the root is mounted with `nolock`.
options=vers=3,proto=tcp,nosharecache,addr=$server
mount -t nfs -o "$options" "$server:/be/scratch" /scratch || exit 1
mount -t nfs -o "$options,nolock" "$server:/be/scratch" /local || exit 1
for transport in tcp udp; do
    rpcinfo -p "$server" | grep " 100021  *4  *$transport  *2049 " || exit 1
done
timeout -s KILL 120 ./locks /scratch/file none || exit 1
timeout -s KILL 120 ./locks /local/file local || exit 1
grep -q data /scratch/file || exit 1
# It waits for nobody here, and would for a lock manager that has said nothing.
umount /local && umount /scratch
