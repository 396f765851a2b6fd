#!/bin/sh
# netbe, with disks mounted below a boot environment while it serves. They are in a mount namespace
# that ends with it, and are mounted anew when it starts again, as after a crash of the host.
set -e
case " $* " in
*" serve "*) ;;
*) exec "$NETBE" "$@" ;;
esac
exec unshare --mount sh -euc '
for path in home var/log; do
    mount -o loop,nosuid,nodev "$DISKS/${path##*/}.img" "$BELOW/$path"
done
exec "$NETBE" "$@"' sh "$@"
