#!/bin/sh
# Tells programs what DHCP told the initial RAM disk, which leaves it in /run/net-*.conf: name servers and
# domain for resolv.conf(5) and resolved.conf(5), and time servers, which netbe puts on the kernel's
# command line, for timesyncd.conf(5). Installed by netbe; run by netbe-network.service.
umask 022

# The values of a name, those of other characters left out.
told() {
    sed -n "s/^$1='\{0,1\}\([A-Za-z0-9_.: -]\{1,\}\)'\{0,1\}\$/\1/p" /run/net-*.conf 2>/dev/null
}

tell() {
    mkdir -p "${1%/*}" && cat >"$1"
}

names=$(told 'IPV4DNS[01]' | grep -vx '0\.0\.0\.0' | tr '\n' ' ')
domain=$(told DNSDOMAIN | head -n 1)
times=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^netbe\.ntp=\([0-9.,]\{1,\}\)$/\1/p' | tail -n 1 | tr , ' ')
# Also where nothing was told: /etc/resolv.conf is a link to it.
{
    [ -n "$names" ] || echo "# The initial RAM disk left no name servers in /run/net-*.conf."
    [ -z "$domain" ] || echo "search $domain"
    for name in $names; do echo "nameserver $name"; done
} | tell /run/netbe/resolv.conf
[ -z "$names$domain" ] || {
    echo "[Resolve]"
    echo "DNS=$names"
    echo "Domains=$domain"
} | tell /run/systemd/resolved.conf.d/10-netbe.conf
[ -z "$times" ] || printf '[Time]\nNTP=%s\n' "$times" | tell /run/systemd/timesyncd.conf.d/10-netbe.conf
