# A day of a machine that keeps a diary in three file systems of its root: it tells what it finds there,
# writes the day, and writes once more when it is told to go on.
set -e
places="/ /home/ /var/log/"
if [ -s /etc/fstab ]; then
    while read -r spec file type options rest; do
        mount -t "$type" -o "$options,addr=${spec%%:*}" "$spec" "$file"
    done </etc/fstab
    [ "$(grep -c ' nfs ' /proc/mounts)" -gt 2 ]
    [ "$(stat -c %d /)" != "$(stat -c %d /home)" ]
else
    [ "$(grep -c ' nfs ' /proc/mounts)" = 1 ]
    [ "$(stat -c %d /)" = "$(stat -c %d /var/log)" ]
fi
write() {
    for place in $places; do echo "$1" >>"${place}diary"; done
    sync
}
for place in $places; do
    touch "${place}diary"
    echo "$place: $(tr '\n' ' ' <"${place}diary")"
done >found
day=$(cat day)
write "$day"
echo ready >phase
# A file is asked after whenever it is opened, so that what the server writes is seen.
while [ "$(cat pace)" = wait ]; do sleep 1; done
write "$day-late"
