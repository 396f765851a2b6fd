# Writes a few hundred megabytes over NFS and reads them back, with checksums.
#
# `phase` tells the host how far it is, so that the host can kill the server in the middle. What is
# written comes from memory, so that a damaged file cannot match its own checksum.
set -e
dd if=/dev/urandom of=/tmp/random bs=1M count=20 2>/dev/null
mkdir -p data
: >sums
for number in 0 1 2 3 4 5 6 7 8 9 10 11; do
    echo "write $number" >phase
    { echo "file $number"; cat /tmp/random; } >"data/$number"
    sum=$({ echo "file $number"; cat /tmp/random; } | md5sum)
    echo "${sum%% *}  data/$number" >>sums
done
sync
echo 3 >/proc/sys/vm/drop_caches
for number in 0 1 2 3 4 5 6 7 8 9 10 11; do
    echo "read $number" >phase
    grep " data/$number\$" sums | md5sum -c
done
echo done >phase
