# Runs NFS-Ganesha with a portmapper of its own, and with its own /run and state, in a mount
# namespace, so that neither leaves a file on the host. $1: configuration.
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/ganesha /run/rpcbind /var/lib/nfs/ganesha
setpriv --pdeathsig KILL rpcbind -f -w &
# Ganesha registers once and gives up when nobody listens yet.
timeout 20 sh -c 'until [ -S /run/rpcbind.sock ]; do sleep 0.1; done'
exec ganesha.nfsd -F -N NIV_EVENT -f "$1" -L STDERR -p /run/ganesha/pid
