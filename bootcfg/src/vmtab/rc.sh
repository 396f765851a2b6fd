#!/bin/sh
#
# Starts the guests of bhyve(8) in vmtab with this host, and switches them off with it. Each line of vmtab has a
# guest's name, the script that runs it until it is off, and its options: auto or noauto, wait=SECONDS.
#
# sysrc vmtab_enable=YES; service vmtab start [NAME ...]; service vmtab stop [NAME ...]; service vmtab status
#
# PROVIDE: vmtab
# REQUIRE: NETWORKING FILESYSTEMS mountcritremote
# KEYWORD: shutdown nojail

. /etc/rc.subr

name="vmtab"
desc="Guests of bhyve in vmtab"
rcvar="vmtab_enable"
start_cmd="vmtab_start"
stop_cmd="vmtab_stop"
status_cmd="vmtab_status"
extra_commands="status"

load_rc_config $name
: ${vmtab_enable:="NO"}
: ${vmtab_file:="/usr/local/etc/vmtab"}
: ${vmtab_timeout:="90"}
: ${vmtab_run:="/var/run"}
: ${vmtab_log:="/var/log"}

# The process of a guest's script, while it runs.
vmtab_process()
{
    process=$(cat "$vmtab_run/vmtab_$1.pid" 2>/dev/null)
    [ -n "$process" ] && kill -0 "$process" 2>/dev/null
}

# Calls a function for each guest that is wanted: those that are named, else those with auto.
vmtab_each()
{
    what=$1
    shift
    failed=0
    while read -r guest script options rest; do
        case $guest in
            ''|'#'*) continue ;;
            -*|.*|*[!A-Za-z0-9._-]*) echo "vmtab: $guest is no name of a guest" >&2; failed=1; continue ;;
        esac
        if [ $# -gt 0 ]; then
            case " $* " in *" $guest "*) ;; *) continue ;; esac
        elif [ "$what" = vmtab_start_one ]; then
            case ",$options," in *,noauto,*) continue ;; esac
        fi
        $what "$guest" "$script" "$options" </dev/null || failed=1
    done < "$vmtab_file"
    return $failed
}

vmtab_start_one()
{
    if vmtab_process "$1"; then
        echo "$1 runs already."
        return 0
    fi
    if [ ! -x "$2" ]; then
        echo "vmtab: $2, which runs $1, is not a program" >&2
        return 1
    fi
    echo "Starting $1."
    daemon -f -p "$vmtab_run/vmtab_$1.pid" -o "$vmtab_log/vmtab_$1.log" "$2" || return 1
    case ",$3," in
        *,wait=*)
            pause=${3##*wait=}
            sleep "${pause%%,*}"
            ;;
    esac
    return 0
}

# SIGTERM is the guest's power button; without bhyve its script is at work, which takes away what it has made.
vmtab_stop_one()
{
    vmtab_process "$1" || return 0
    echo "Switching $1 off."
    pkill -TERM -P "$process" bhyve || kill -TERM "$process"
}

vmtab_wait_one()
{
    while vmtab_process "$1"; do
        if [ "$left" -le 0 ]; then
            echo "vmtab: $1 is not off after $vmtab_timeout seconds" >&2
            return 1
        fi
        sleep 1
        left=$((left - 1))
    done
    return 0
}

vmtab_status_one()
{
    if vmtab_process "$1"; then
        echo "$1 runs as pid $process."
    else
        echo "$1 does not run."
        return 1
    fi
}

vmtab_start()
{
    vmtab_each vmtab_start_one "$@"
}

vmtab_stop()
{
    vmtab_each vmtab_stop_one "$@"
    left=$vmtab_timeout
    vmtab_each vmtab_wait_one "$@"
}

vmtab_status()
{
    vmtab_each vmtab_status_one "$@"
}

run_rc_command "$@"
