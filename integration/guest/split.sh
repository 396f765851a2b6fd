# Mounts by itself what the fstab that netbe wrote for it says, onto directories that take no files.
set -e
[ "$(ls /home)" = "" ]
if touch /home/lost 2>/tmp/said; then exit 1; fi
grep -i 'read-only' /tmp/said
while read -r spec file type options rest; do
    mount -t "$type" -o "$options,addr=${spec%%:*}" "$spec" "$file"
done </etc/fstab
[ "$(grep -c ' nfs ' /proc/mounts)" -gt 2 ]
[ "$(cat /home/letter)" = "dear host" ]
[ "$(cat /var/log/held)" = log ]
[ "$(stat -c %d /)" != "$(stat -c %d /home)" ]
[ "$(stat -c %d /home)" != "$(stat -c %d /var/log)" ]
echo "dear host, again" >/home/letter
