# What the guests of the demonstration do: they use their root for a while, and leave a proof on it.
cat /boot/vmlinuz >copy
sync
echo 3 >/proc/sys/vm/drop_caches
cmp copy /boot/vmlinuz || exit 1
# netbe tells once in a second what a machine reads and writes.
sleep 2
address=$(ip -4 -o address show scope global | sed 's/.*inet \([^ ]*\).*/\1/')
{
    echo "This is $(hostname). I have no disk."
    echo "My address is $address."
    echo "It is $(date -u '+%Y-%m-%d %H:%M:%S') UTC; my kernel runs for $(cut -d' ' -f1 /proc/uptime) s."
} >proof
