# Clones a boot environment again and again, in turns: a batch by netbe, a batch by a loop over the file
# system's own command. What it prints is read by the benchmark: `batch SIDE NS KIB` for each batch with
# all of it on disk, `list SIDE NS` for a list of all clones, `process NS` for starting twenty programs.
# A line that begins with `lab: ` is for whoever waits. Called in an empty directory with the kind of store,
# how many batches, how many clones in each, and the minutes after which no batch begins; $NETBE is the
# program.
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
    list_peer() { zfs list -H -o name,origin,creation -d 1 tank/peer; }
    used() { zpool sync tank && echo $(($(zfs get -Hpo value used tank) / 1024)); }
    ;;
btrfs)
    disk mkfs.btrfs -q
    btrfs subvolume create mounted/peer/base >/dev/null
    export NETBE_STORE="btrfs:$PWD/mounted/be"
    fill mounted/peer/base
    by_peer() { btrfs subvolume snapshot mounted/peer/base "mounted/peer/$1" >/dev/null; }
    list_peer() { btrfs subvolume list mounted; }
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
    list_peer() { ls -l mounted/peer; }
    ;;
esac
command -v used >/dev/null || used() { sync -f mounted && df -k --output=used mounted | tail -n 1; }
mkdir shown
"$NETBE" create base
"$NETBE" mount base "$PWD/shown"
fill shown
"$NETBE" unmount base
"$NETBE" snapshot base@gold
by_netbe() { "$NETBE" clone base@gold "$1"; }
list_netbe() { "$NETBE" list -H; }

processes() {
    begin=$(now)
    for _ in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do /bin/true; done
    echo "process $(($(now) - begin))"
}
batch() {
    before=$(used) begin=$(now) number=0
    while [ $number -lt "$size" ]; do
        "by_$1" "n$2-$number"
        number=$((number + 1))
    done
    after=$(used)
    echo "batch $1 $(($(now) - begin)) $((after - before))"
}
list() {
    begin=$(now)
    "list_$1" >/dev/null
    echo "list $1 $(($(now) - begin))"
}
processes
turn=0
start=$(date +%s)
passed() { echo $(($(date +%s) - start)); }
while [ $turn -lt "$batches" ] && [ "$(passed)" -lt $((minutes * 60)) ]; do
    # Who is first changes, so that what grows hits both alike.
    if [ $((turn % 2)) = 0 ]; then sides="netbe peer"; else sides="peer netbe"; fi
    for side in $sides; do batch $side $turn; done
    turn=$((turn + 1))
    echo "lab: $((turn * size)) of $((batches * size)) by each, $(passed) s"
done
for _ in 1 2 3; do
    list netbe
    list peer
done
processes
[ "$("$NETBE" list -H | wc -l)" = $((turn * size + 1)) ]
case $kind in
zfs*) zfs version | head -n 1 | sed 's/^/version /' && zpool export tank ;;
*) btrfs --version | sed 's/^/version /' && umount mounted && rm image ;;
esac
