# A day's work on a server that is netbe on ZFS, while a machine boots from it. A line that begins with
# `lab: ` asks whoever watches to switch the machine on.
running() { ./netbe status | grep -q '^desk.*running'; }
# Gives the machine, which is to boot the environment $1, a day $2, and switches it on; $3 is wait or go.
boot() {
    lab=$trees/$1/lab
    await test -d "$lab"
    cp desk.sh "$lab/task"
    rm -f "$lab/marker" "$lab/phase"
    echo "$2" >"$lab/day"
    echo "$3" >"$lab/pace"
    cp /proc/sys/kernel/random/uuid "$lab/token"
    echo "lab: switch on"
}
# Waits for the end of the machine's day; it has to have found $1 in each of its diaries, or $2 in those
# of /home and /var/log.
ended() {
    await test -f "$lab/marker"
    for line in "token=$(cat "$lab/token")" task=0 host=desk; do
        grep -qx "$line" "$lab/marker" || {
            cat "$lab/log"
            fail "no $line in the machine's marker: $(cat "$lab/marker")"
        }
    done
    grep -q '^mount=.* / nfs rw,' "$lab/marker" || fail "the machine's root is not NFS"
    for found in "/: $1" "/home/: ${2-$1}" "/var/log/: ${2-$1}"; do
        grep -qx "$found" "$lab/found" || fail "the machine found $(cat "$lab/found")"
    done
}
# The day that a tree's three diaries end with.
last() {
    for diary in "$1/diary" "$1/home/diary" "$1/var/log/diary"; do tail -n 1 "$diary"; done | uniq
}

zpool create -O compression=on -m none tank /dev/vdc1

step "a nested environment is made"
netbe create -l linux desk
mkdir tree
netbe mount desk "$PWD/tree"
tar -xf root.tar -C tree
netbe unmount desk
# The kernel takes a timer that is late, as on a busy computer, for one that is broken.
netbe machine add --mac 52:54:00:77:00:01 --cmdline "console=ttyS0 no_timer_check" desk
serve

step "the machine boots, and lives"
netbe sharepxe --machine desk desk
boot desk monday wait
await test -f "$lab/phase"
await running
netbe snapshot desk@live
refused "desk runs from desk" rollback desk@live
refused "desk runs from desk" destroy desk
refused "desk runs from desk" rename desk other
# It waits meanwhile.
netbe rename -f desk other
shows '^other' netbe list
refused "desk runs from other" destroy other
netbe rename -f other desk

step "netbe is killed, and starts again"
kill -9 "$server"
wait "$server" || true
serve
echo go >"$lab/pace"
ended ""
[ "$(last "$trees/desk")" = monday-late ]
shows 'M.*/home/diary' netbe diff desk@live

step "the snapshot was made while it lived"
netbe mount desk@live "$PWD/tree"
[ "$(last tree)" = monday ]
netbe unmount desk

step "it is rolled back, and boots again"
refused "desk runs from desk" rollback desk@live
netbe rollback -f desk@live
netbe sharepxe --machine desk desk
boot desk tuesday go
ended "monday "
[ "$(last "$trees/desk")" = tuesday-late ]

step "a clone of the snapshot boots"
netbe clone desk@live old
netbe sharepxe --machine desk old
boot old wednesday go
ended "monday "
[ "$(last "$trees/old")" = wednesday-late ]
[ "$(last "$trees/desk")" = tuesday-late ]

step "a clone boots, each of its file systems mounted by itself"
netbe clone desk new
netbe machine set --view split desk
await test -d "$trees/new/etc"
netbe show fstab --machine desk new >fstab
cp fstab "$trees/new/etc/fstab"
netbe sharepxe --machine desk new
boot new thursday go
ended "monday tuesday tuesday-late "
# A clone without a mount of its own has the files of all its data sets.
[ "$(last "$trees/new")" = thursday-late ]

step "it gets a root of its own, and data that stay with it"
netbe machine set --view joined desk
printf '%s\n' a b c d e >"$trees/old/etc/letters"
# Whatever it is called, it is somebody's.
zfs snapshot tank/be/old@left
zfs clone -o canmount=noauto -o mountpoint=/ tank/be/old@left tank/be/desk-old.unfinished
netbe set data=home data=var/log old
netbe sharepxe --machine desk --root own old
netbe destroy desk-old.unfinished
zfs destroy tank/be/old@left
netbe snapshot desk-old@begin
netbe snapshot desk-data@begin
boot desk-old friday go
ended "monday wednesday wednesday-late "
refused "desk-data has the data of desk in it" rollback desk-data@begin
refused "desk-data has the data of desk in it" destroy desk-data
sed -i s/a/alpha/ "$trees/desk-old/etc/letters"

step "it boots its upgraded root once, and is put back"
netbe clone old next
await test -d "$trees/next/etc"
sed -i s/e/epsilon/ "$trees/next/etc/letters"
shows 'merge.*/etc/letters' netbe upgrade -n desk next
netbe upgrade desk next
[ "$(tr '\n' ' ' <"$trees/desk-next/etc/letters")" = "alpha b c d epsilon " ]
boot desk-next saturday go
kept="monday wednesday wednesday-late friday friday-late "
ended "monday wednesday wednesday-late " "$kept"
boot desk-old sunday go
kept="${kept}saturday saturday-late "
ended "monday wednesday wednesday-late friday friday-late " "$kept"

step "its root is rolled back and then made anew, and its data stay"
kept="${kept}sunday sunday-late "
refused "desk runs from desk-old" rollback desk-old@begin
netbe rollback -f desk-old@begin
shows wednesday-late tail -n 1 "$trees/desk-old/diary"
refused "desk runs from desk-old" machine reset desk
netbe machine reset -f desk
boot desk-old-2 holiday go
ended "monday wednesday wednesday-late " "$kept"
shows holiday-late tail -n 1 "$trees/desk-data/home/diary"

step "what others depend on is not destroyed"
shows '^old.*desk@live' netbe list
shows 'desk@live' netbe list -s
shows '^desk.*desk-old-2' netbe status
refused "is needed by old" destroy desk@live
refused "desk runs from desk-old-2" destroy desk-old-2
netbe destroy new
netbe promote old
shows '^old@live' netbe list -s
netbe destroy desk
[ "$(netbe list -H | cut -f 1 | sort | tr '\n' ' ')" = "desk-data desk-next desk-old-2 next old " ]
netbe history >history
for verb in create snapshot rollback clone promote destroy; do
    shows "$verb.*done" cat history
done
shows 'rollback.*desk@live' cat history
finish
