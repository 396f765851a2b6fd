# Runs NFS-Ganesha with a portmapper of its own, and with its own /run and state, in a mount
# namespace, so that neither leaves a file on the host. $1: configuration, $2: log.
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/nfs
mkdir -p /run/ganesha /run/rpcbind /var/lib/nfs/ganesha
setpriv --pdeathsig KILL rpcbind -f -w &
exec ganesha.nfsd -F -N NIV_EVENT -f "$1" -L "$2" -p /run/ganesha/pid
