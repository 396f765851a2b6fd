# Puts thin jails together from what netbe writes, as jail(8) would: a template like FreeBSD's is split, and
# its halves are mounted by the generated fstab, with a bind mount for nullfs. What is asked of the kernel in
# the template is then asked in the jail. Called in an empty directory; $NETBE and $BUSYBOX are programs, the
# latter linked statically. Ends with 77 where btrfs cannot be mounted.
set -eu
fail() {
    echo "FAIL: $*" >&2
    exit 1
}
truncate -s 1G image
mkfs.btrfs -q image >/dev/null
mkdir mounted
mount -o loop image mounted 2>/dev/null || exit 77
netbe() { "$NETBE" --state "$PWD/state" --store "btrfs:$PWD/mounted/store" "$@"; }
be=$PWD/mounted/store/be

# The template: nested, with what makes a split hard.
netbe create -l freebsd 14.3
(
    cd "$be/14.3"
    mkdir -p bin dev etc/mail etc/ssl/certs etc/ssl/untrusted lib libexec rescue root sbin usr/bin usr/lib \
        usr/local/bin usr/local/etc usr/local/share/certs usr/sbin usr/share/certs/trusted \
        usr/share/certs/untrusted usr/share/misc usr/src/sys/amd64 var/db var/empty var/run var/unbound
    cp "$BUSYBOX" bin/sh
    for name in cat chmod find grep head ls md5sum readlink rm sed; do ln bin/sh "bin/$name"; done
    for name in cat init ls sh; do ln bin/sh "rescue/$name"; done
    echo 'set prompt' >.cshrc && ln .cshrc root/.cshrc
    echo 'export PATH' >.profile && ln .profile root/.profile
    for number in $(seq 100 240); do
        echo "certificate $number" >"usr/share/certs/trusted/CA_$number.pem"
        ln -s "../../../usr/share/certs/trusted/CA_$number.pem" "etc/ssl/certs/5ad8a$number.0"
    done
    for number in $(seq 10 20); do
        echo "distrusted $number" >"usr/share/certs/untrusted/CA_$number.pem"
        ln -s "../../../usr/share/certs/untrusted/CA_$number.pem" "etc/ssl/untrusted/0b9a$number.0"
    done
    echo 'a bundle' >usr/local/share/certs/ca-root-nss.crt
    echo library >lib/libc.so.7 && echo linker >libexec/ld-elf.so.1
    echo tape >usr/sbin/rmt && echo termcap >usr/share/misc/termcap
    echo 'root: you' >etc/mail/aliases && echo 'server:' >var/unbound/unbound.conf
    echo 'root:*:0:0' >etc/passwd && echo tool >usr/local/bin/tool
    while read -r link text; do ln -s "$text" "$link"; done <<LINKS
etc/aliases mail/aliases
etc/unbound ../var/unbound
etc/rmt /usr/sbin/rmt
etc/termcap /usr/share/misc/termcap
etc/ssl/cert.pem ../../usr/local/share/certs/ca-root-nss.crt
etc/localtime ../usr/share/zoneinfo/UTC
home usr/home
sys usr/src/sys
usr/bin/passwd ../../etc/passwd
usr/lib/libc.so ../../lib/libc.so.7
usr/libexec ../libexec
usr/local/bin/sh ../../../bin/sh
usr/local/bin/ls ../../bin/../../bin/ls
usr/local/certs ../share/certs/trusted
usr/local/etc/host ../../../etc
usr/src/sys/machine amd64/include
usr/src/etc ../../etc
var/db/certs ../../usr/share/certs
var/run/log ../log/messages
LINKS
    chmod 1777 tmp && chmod 555 var/empty && chmod 4555 bin/chmod
    chattr +i var/empty lib/libc.so.7 usr/local/share/certs/ca-root-nss.crt
)
# Says of every link of the template what is at its end, as the kernel finds it.
ends() {
    chroot "$1" /bin/sh -c 'while read -r link; do
        if [ -d "$link" ]; then echo "$link: a directory with $(ls "$link" | grep -c "")"
        elif [ -e "$link" ]; then echo "$link: $(md5sum <"$link")"
        else echo "$link: nothing"; fi
    done' <links
}
chroot "$be/14.3" /bin/find / -type l >links
ends "$be/14.3" >before
[ "$(grep -c . links)" -gt 165 ] && [ "$(grep -c ': nothing$' before)" = 3 ] || fail "the template: $(cat before)"

netbe thin -n 14.3 >/dev/null
netbe thin 14.3
netbe clone 14.3-skeleton web
netbe clone 14.3-skeleton db
netbe thin --check 14.3
ends "$be/14.3" | cmp before - || fail 'the template was changed'

# Mounts what an fstab says.
attach() {
    while read -r spec file kind options _; do
        spec=$(printf %b "$(echo "$spec" | sed 's/\\/\\0/g')") file=$(printf %b "$(echo "$file" | sed 's/\\/\\0/g')")
        [ "$kind" = nullfs ] || fail "the fstab has $kind"
        mount --bind "$spec" "$file"
        [ "$options" = rw ] || mount -o "remount,bind,$options" "$file"
    done <"$1"
}
for jail in web db; do
    mkdir -p "jails/the $jail"
    netbe thin --fstab "$PWD/jails/the $jail" $jail >"$jail.fstab"
    attach "$jail.fstab"
done
netbe lint web.fstab db.fstab || fail 'netbe does not like its own fstab'
inside() {
    jail=$1 && shift
    chroot "jails/the $jail" /bin/sh -c "$*"
}

# Every link leads where it led.
ends 'jails/the web' >after
cmp before after || fail "links lead elsewhere: $(diff before after)"
[ "$(inside web 'cat /etc/ssl/certs/*.0 | grep -c "^certificate "')" = 141 ] || fail 'certificates are missing'
[ "$(inside web '/usr/local/bin/sh -c "cat /etc/ssl/cert.pem"')" = 'a bundle' ] || fail 'no bundle'
# What is written is the jail's own, and none of it is the base's.
for place in etc root tmp var/db var/log usr/local/etc usr/home home; do
    inside web "echo web >/$place/mark" || fail "/$place cannot be written to"
    [ ! -e "jails/the db/$place/mark" ] || fail "another jail has /$place/mark"
done
for place in '' bin lib usr usr/share usr/src skeleton/../bin; do
    if inside web "echo web >/$place/mark" 2>/dev/null; then fail "the base's /$place was written to"; fi
done
inside web 'echo web:*:1:1 >>/etc/passwd && rm /etc/mail/aliases && cat /var/unbound/unbound.conf' >/dev/null
[ "$(inside db 'cat /etc/passwd; cat /etc/aliases')" = "$(cat "$be/14.3/etc/passwd" "$be/14.3/etc/mail/aliases")" ]
# Flags, modes and hard links are those of the template; only those over the border are no longer one.
lsattr -d "$be/web/var/empty" "$be/14.3-base/lib/libc.so.7" "$be/web/usr/local/share/certs/ca-root-nss.crt" |
    grep -c '^----i' | grep -qx 3 || fail 'flags are gone'
if inside web 'echo x >/var/empty/x' 2>/dev/null; then fail '/var/empty is not immutable'; fi
names=$(stat -c '%a %h' "$be/14.3-base/rescue/ls")
[ "$names" = '4555 15' ] || fail "the hard links of /bin and /rescue: $names"
[ "$(stat -c '%h' "$be/14.3-base/.cshrc" "$be/web/root/.cshrc")" = "$(printf '1\n1')" ] || fail '/.cshrc'
[ "$(stat -c %a "$be/web/tmp")" = 1777 ] || fail 'the mode of /tmp'

# Twice is once.
netbe list -j | grep '"uuid"' >uuids
netbe thin 14.3
netbe list -j | grep '"uuid"' | cmp - uuids || fail 'it was split anew'

# What an update would do is told beforehand, and is so afterwards.
update() {
    echo renewed >"$1/usr/share/certs/trusted/CA_100.pem"
    rm "$1/usr/share/certs/trusted/CA_101.pem"
    echo new >"$1/usr/share/certs/trusted/CA_300.pem"
}
netbe clone 14.3-base rehearsal
update "$be/rehearsal"
netbe thin --touches --to rehearsal -H 14.3-base | grep -v '^14.3-base' >foretold
netbe snapshot 14.3-base@before
update "$be/14.3-base"
netbe thin --touches -H 14.3-base | grep -v '^14.3-base' >told
cmp foretold told || fail "foretold was $(cat foretold), and told $(cat told)"
for jail in 14.3-skeleton web db; do
    grep "^$jail	" told | cut -f 3 | sort >own
    sort >expected <<TOUCHES
/etc/ssl/certs/5ad8a100.0 leads to /usr/share/certs/trusted/CA_100.pem, which has changed
/etc/ssl/certs/5ad8a101.0 leads nowhere now: "../../../../usr/share/certs/trusted/CA_101.pem" is gone
TOUCHES
    cmp own expected || fail "an update touches in $jail: $(cat own)"
done
[ "$(inside db 'cat /etc/ssl/certs/5ad8a100.0')" = renewed ] || fail 'the jail has no new certificate'
if inside db 'cat /etc/ssl/certs/5ad8a101.0' 2>/dev/null; then fail 'the jail has an old certificate'; fi
# None of that is the split's fault, and a link that is says what it should say.
netbe thin --check 14.3 >proof
# (In the jail that lost its aliases, the link to them leads nowhere too.)
nowhere=$(sed 's/.* the split breaks none; \(.*\) led nowhere before/\1/' proof)
[ "$(echo $nowhere)" = '4 4 5' ] || fail "$(cat proof)"
ln -sf ../../../usr/share/certs/trusted/CA_102.pem "$be/web/etc/ssl/certs/5ad8a102.0"
if netbe thin --check 14.3 >/dev/null 2>complaint; then fail 'a broken link was not found'; fi
grep -q 'let it say "../../../../usr/share/certs/trusted/CA_102.pem"$' complaint || fail "$(cat complaint)"
