# Clones a boot environment again and again, in turns: a batch by the command netbe, a batch inside one process
# (the API), a batch by a loop over the file system's own command. What it prints is read by the benchmark:
# `batch SIDE NS KIB CPU` for each batch with all of it on disk, `list SIDE NS CPU` for a list of all clones,
# with milliseconds of processor time of what was started, and `process NS` for starting twenty programs.
# A line that begins with `lab: ` is for whoever waits. Called in an empty directory with the kind of store,
# how many batches, how many clones in each, and the minutes after which no batch begins; $NETBE is the
# program, $CLONES that of the API.
set -eu
kind=$1 batches=$2 size=$3 minutes=$4
export NETBE_STATE="$PWD/state"
now() { date +%s%N; }
fill() {
    for folder in 0 1 2 3 4 5 6 7 8 9; do
        mkdir "$1/$folder"
        for file in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
            head -c 8192 /dev/urandom >"$1/$folder/$file"
        done
    done
}
disk() {
    truncate -s 16G image
    "$@" image >/dev/null
    mkdir mounted
    mount -o loop image mounted
    mkdir mounted/peer
}

case $kind in
zfs*)
    zpool create -m none tank /dev/vdc1
    zfs create -o mountpoint=none tank/peer
    zfs create -o mountpoint="$PWD/filled" tank/peer/base
    export NETBE_STORE=zfs:tank/be
    fill filled
    zfs snapshot tank/peer/base@gold
    by_peer() { zfs clone tank/peer/base@gold "tank/peer/$1"; }
    # What netbe asks of its own environments.
    columns=name,guid,creation,origin,mountpoint,canmount,keystatus,encryptionroot,sharenfs,used,referenced
    columns=$columns,written,netbe:uuid,netbe:created,netbe:layout,netbe:role,netbe:export
    list_peer() { zfs list -H -p -r -t filesystem -o $columns tank/be; }
    used() { zpool sync tank && echo $(($(zfs get -Hpo value used tank) / 1024)); }
    ;;
btrfs)
    disk mkfs.btrfs -q
    btrfs subvolume create mounted/peer/base >/dev/null
    export NETBE_STORE="btrfs:$PWD/mounted/be"
    fill mounted/peer/base
    by_peer() { btrfs subvolume snapshot mounted/peer/base "mounted/peer/$1" >/dev/null; }
    ;;
dir_reflink | dir_copy)
    if [ "$kind" = dir_copy ]; then
        disk mkfs.ext4 -q -N 1000000
        by_peer() { cp -a --reflink=never mounted/peer/base "mounted/peer/$1"; }
    else
        disk mkfs.btrfs -q
        by_peer() { cp -a --reflink=always mounted/peer/base "mounted/peer/$1"; }
    fi
    mkdir mounted/peer/base
    export NETBE_STORE="dir:$PWD/mounted/be"
    fill mounted/peer/base
    ;;
esac
# A bare walk that reads what netbe reads.
command -v list_peer >/dev/null || list_peer() {
    find mounted/be/be -maxdepth 1 -printf '%i %m\n' && cat mounted/be/meta/*.toml
}
command -v used >/dev/null || used() { sync -f mounted && df -k --output=used mounted | tail -n 1; }
mkdir shown
"$NETBE" create base
"$NETBE" mount base "$PWD/shown"
fill shown
"$NETBE" unmount base
"$NETBE" snapshot base@gold
by_netbe() { "$NETBE" clone base@gold "$1"; }
list_netbe() { "$NETBE" list -H; }
list_api() { "$CLONES" "$NETBE_STORE" "$NETBE_STATE" list 1; }

processes() {
    begin=$(now)
    for _ in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do /bin/true; done
    echo "process $(($(now) - begin))"
}
# Sets `spent` to the milliseconds of processor time of all that was started so far. Not a function that prints it:
# what `$(...)` runs in has started nothing yet.
look_at_spent() {
    times >times
    spent=$(tail -n 1 times | tr 'ms' '  ' | awk '{ printf "%d", ($1 * 60 + $2 + $3 * 60 + $4) * 1000 }')
}
loop() {
    number=0
    while [ $number -lt "$size" ]; do
        "by_$1" "$1$2-$number"
        number=$((number + 1))
    done
}
batch() {
    before=$(used)
    look_at_spent
    spent_before=$spent begin=$(now)
    case $1 in
    api) "$CLONES" "$NETBE_STORE" "$NETBE_STATE" clone base@gold "api$2" "$size" >/dev/null ;;
    *) loop "$1" "$2" ;;
    esac
    look_at_spent
    cpu=$((spent - spent_before))
    after=$(used)
    echo "batch $1 $(($(now) - begin)) $((after - before)) $cpu"
}
list() {
    look_at_spent
    spent_before=$spent begin=$(now)
    "list_$1" >listed
    end=$(now)
    look_at_spent
    echo "list $1 $((end - begin)) $((spent - spent_before))"
}
processes
turn=0
start=$(date +%s)
passed() { echo $(($(date +%s) - start)); }
while [ $turn -lt "$batches" ] && [ "$(passed)" -lt $((minutes * 60)) ]; do
    # Who is first changes, so that what grows hits all alike.
    case $((turn % 3)) in
    0) sides="netbe api peer" ;;
    1) sides="api peer netbe" ;;
    2) sides="peer netbe api" ;;
    esac
    for side in $sides; do batch $side $turn; done
    turn=$((turn + 1))
    echo "lab: $((turn * size)) of $((batches * size)) by each, $(passed) s"
done
for _ in 1 2 3; do
    list netbe
    list api
    list peer
done
processes
[ "$("$NETBE" list -H | wc -l)" = $((2 * turn * size + 1)) ]
case $kind in
zfs*) zfs version | head -n 1 | sed 's/^/version /' && zpool export tank ;;
*) btrfs --version | sed 's/^/version /' && umount mounted && rm image ;;
esac
