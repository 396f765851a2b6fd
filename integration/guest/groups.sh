# Reads, as a user who is in more groups than a call can name, files that only one group each may read:
# the user's twentieth, which the server's host alone knows of, and one that the client alone names.
server=$(sed -n 's/^\([^:]*\):.* \/ nfs .*/\1/p' /proc/mounts)
user() { /usr/bin/setpriv --reuid 7001 --regid 7001 --groups 7500 cat "$1"; }
for name in plain managed; do
    mkdir -p /$name
    mount -t nfs -o vers=3,proto=tcp,nolock,nosharecache,addr="$server" "$server:/be/$name" /$name || exit 1
done
user /plain/sent | grep -q secret || exit 1
if user /plain/twentieth; then exit 1; fi
user /managed/twentieth | grep -q secret || exit 1
if user /managed/sent; then exit 1; fi
# Who is not known to the host is in the groups that the client names.
/usr/bin/setpriv --reuid 7002 --regid 7002 --groups 7500 cat /managed/sent | grep -q secret || exit 1
umount /plain && umount /managed
