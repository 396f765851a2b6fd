# A pool goes away under a running server, and comes back, while a client of its own kernel's keeps a
# diary in it over NFS. Its disk is a file in memory: who fills that memory takes the disk away.
mend() {
    kill -9 "$client"
    rm -f /disk/filler
    zpool clear tank
    umount -f -l /client
}
# Writes one line after the other, in both file systems, until it is told to stop.
keep_diary() {
    line=0
    while [ ! -e stop ]; do
        line=$((line + 1))
        { echo $line >>/client/diary && echo $line >>/client/home/diary; } || exit 1
        echo $line >written.new
        mv written.new written
        sleep 0.2
    done
}
written_since() {
    kill -0 "$client" || fail "the client has given up"
    [ "$(cat written)" -gt "$1" ]
}
goes_on() { await written_since "$(($(cat written) + 3))"; }
waits() {
    # What was on its way may have come to its end.
    sleep 1
    before=$(cat written)
    sleep 5
    [ "$(cat written)" = "$before" ] || fail "it has written although the pool is away"
    kill -0 "$client" || fail "the client has given up"
}
says() { ./netbe status | grep -q "$1"; }
serves_all() { ! says "not served"; }

modprobe nfsv3
mkdir /disk /client
mount -t tmpfs -o size=200M tmpfs /disk
truncate -s 160M /disk/pool
zpool create -O compression=off -m none tank /disk/pool
dd if=/dev/urandom of=key bs=32 count=1 2>/dev/null

step "a client writes into an environment of which a part is encrypted"
netbe create desk
zfs create -o canmount=noauto -o encryption=on -o keyformat=raw -o "keylocation=file://$PWD/key" \
    tank/be/desk/home
netbe sharenfs --network 10.77.0.0/24 --maproot root desk
netbe snapshot desk@empty
serve
mount -t nfs -o vers=3,proto=tcp,nolock,hard,addr=10.77.0.2 10.77.0.2:/be/desk /client
echo 0 >written
keep_diary &
client=$!
goes_on

step "the pool is exported, which takes netbe's leave"
if zpool export tank; then fail "it was exported under the server"; fi
goes_on
refused "false failed" release false
goes_on
broken=$NETBE_STATE/machines/broken.toml
refused "cannot serve the store again" release sh -c "echo nonsense >$broken"
says 'not served: .*broken' || fail "it is not said why nothing is served"
rm "$broken"
goes_on
await serves_all
netbe pause zpool export tank
shows 'not served: the pool tank is not there.*`zpool import tank`' netbe status
waits

step "it is imported, and its key is loaded later"
zpool import -d /disk tank
await says 'is locked: run `zfs load-key tank/be/desk/home`'
waits
refused "desk is used over NFS by 10.77.0.2" rollback desk@empty
zfs load-key tank/be/desk/home
goes_on
await serves_all

step "its disk is taken away, and given back"
dd if=/dev/zero of=/disk/filler bs=1M 2>/dev/null || true
await says 'not served: the pool tank does not answer.*`zpool clear tank`'
waits
refused "the pool tank does not answer" list
netbe machine add --mac 52:54:00:77:00:09 other
shows '^other' netbe status
rm /disk/filler
zpool clear tank
goes_on
await serves_all

step "netbe starts before the pool is there"
netbe pause zpool export tank
kill "$server"
wait "$server" || true
serve
waits
zpool import -d /disk -l tank
goes_on

step "nothing that was written is lost"
touch stop
wait "$client" || fail "the client could not write"
for diary in /client/diary /client/home/diary; do
    seq "$(cat written)" | cmp - "$diary" || fail "$diary is not whole"
done
umount /client
grep 'not served:' serve.log
finish
