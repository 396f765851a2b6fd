# Lives on a root of several file systems that is mounted as one, while its server is killed.
set -e
[ "$(grep -c ' nfs ' /proc/mounts)" = 1 ]
echo "dear host" >/home/letter
mkdir -p /home/me /var/log/old
echo begun >/var/log/messages

# No two files have one number, as find and tar take them for one file. Other mounts begin with 1.
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /lab/log \) -prune \
    -o -exec stat -c %i {} + >/tmp/inodes
[ "$(sort -u /tmp/inodes | wc -l)" = "$(wc -l </tmp/inodes)" ]
[ "$(stat -c %d /)" = "$(stat -c %d /home/me)" ]
[ "$(cd /home/me/../.. && pwd -P)" = / ]

if ln /home/letter /lab/letter 2>/tmp/said; then exit 1; fi
grep -i 'cross-device' /tmp/said
if rmdir /home; then exit 1; fi
if mv /var /war; then exit 1; fi
mv /var/log/old /var/log/older

# What is open stays open when the server is killed.
exec 3>/home/held 4>/var/log/held
number=$(stat -c %i /home/held)
echo ready >phase
sleep 5
echo home >&3
echo log >&4
exec 3>&- 4>&-
sync
echo 3 >/proc/sys/vm/drop_caches
[ "$(cat /home/held /var/log/held)" = "home
log" ]
[ "$(stat -c %i /home/held)" = "$number" ]
