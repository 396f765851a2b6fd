#!/bin/sh
# Runs netbe's tests on the FreeBSD machine that it stands on, and ends in
# `N passed, N failed, N skipped`. `cargo lab freebsd --build DIR` wrote it, with what it runs;
# docs/freebsd-host.md in source/ says more.
#
#   sh run.sh                   all tests
#   sh run.sh WORD...           the programs of tests whose name has one of these words in it
#   sh run.sh WORD... -- TEST   of these, the tests whose name has TEST in it
#
# What each program wrote is kept in log/. NETBE_TEST_LIMIT has the seconds that one program may take.

limit=${NETBE_TEST_LIMIT:-1800}

here=$(cd "$(dirname "$0")" && pwd) || exit 2
if [ "$(uname -s)" != FreeBSD ]; then
    echo "run.sh: these programs are for FreeBSD, and this is $(uname -s)" >&2
    exit 2
fi
if [ "$(uname -m)" != amd64 ]; then
    echo "run.sh: these programs are for amd64, and this is $(uname -m)" >&2
    exit 2
fi
if [ "$(uname -K)" -lt 1302000 ]; then
    echo "run.sh: netbe needs FreeBSD 13.2 or later, and this is $(uname -r)" >&2
    exit 2
fi
if [ "$(id -u)" != 0 ]; then
    echo "run.sh: file handles, mounts and low ports need root; tests of them will skip or fail" >&2
fi

if ! command -v timeout >/dev/null; then
    echo "run.sh: timeout(1) is not there, and FreeBSD has had it since 10.3: a test that hangs will not end" >&2
    timeout() {
        shift 3 # -k 10 SECONDS
        "$@"
    }
fi

# Which programs, and which of their tests.
words=
while [ $# -gt 0 ]; do
    case $1 in
    --)
        shift
        break
        ;;
    esac
    words="$words $1"
    shift
done

# The tests find the program by what cargo would say.
CARGO_BIN_EXE_netbe=$here/netbe
export CARGO_BIN_EXE_netbe
RUST_BACKTRACE=${RUST_BACKTRACE-0}
export RUST_BACKTRACE

wanted() {
    [ $# -eq 1 ] && return 0
    name=$1
    shift
    for word; do
        case $name in *"$word"*) return 0 ;; esac
    done
    return 1
}

# Reads what a program of tests wrote, after the names of all its tests. Writes a line for each test:
# `passed`, `failed` or `skipped`, its name, and why it was skipped.
judge() {
    awk '
    /^@list$/ { listing = 1; next }
    /^@run$/ { listing = 0; next }
    listing && sub(/: test$/, "") { known[$0] = ++count; names[count] = $0; next }
    listing { next }
    /^test .* \.\.\. ok$/ { note("passed"); next }
    /^test .* \.\.\. FAILED$/ { note("failed"); next }
    /^test .* \.\.\. ignored/ { note("skipped"); next }
    # What a test printed stands below a line with its name.
    /^---- .* stdout ----$/ { teller = $2; next }
    /^skipped: / && teller in known && !(teller in why) { why[teller] = substr($0, 10) }
    END {
        for (i = 1; i <= count; i++) {
            name = names[i]
            state = name in result ? result[name] : "failed"
            if (state == "failed") delete why[name]
            if (!(name in result)) why[name] = "its program ended before it did"
            if (state == "passed" && name in why) state = "skipped"
            if (state == "skipped" && !(name in why)) why[name] = "only runs when it is asked for"
            print state "\t" name "\t" (state == "passed" ? "" : why[name])
        }
    }
    function note(state,  name) {
        name = $0
        sub(/^test /, "", name)
        sub(/ \.\.\. (ok|FAILED|ignored.*)$/, "", name)
        sub(/ - should panic$/, "", name)
        result[name] = state
    }'
}

mkdir -p "$here/log" || exit 2
all=$here/log/all
: >"$all" || exit 2
programs=$(cd "$here/tests" && find . -type f | sed 's,^\./,,' | sort)
for program in $programs; do
    # shellcheck disable=SC2086 # one word of the script is one here
    wanted "$program" $words || continue
    log=$here/log/$(echo "$program" | tr / -)
    # A program of tests stands below the name of its package, whose sources may be read by it.
    cd "$here/source/$(dirname "$program")" || exit 2
    CARGO_MANIFEST_DIR=$(pwd)
    export CARGO_MANIFEST_DIR
    {
        echo @list
        "$here/tests/$program" --list "$@" </dev/null
        echo @run
        timeout -k 10 "$limit" "$here/tests/$program" --show-output "$@" </dev/null 2>"$log.err"
        echo "@ended $?"
    } >"$log.out"
    judge <"$log.out" >"$log.tests"
    # A program that cannot even tell what tests it has is one that failed.
    if ! [ -s "$log.tests" ] && ! grep -q '^0 tests,' "$log.out"; then
        printf 'failed\t-\tthe program does not run\n' >"$log.tests"
    fi
    sed "s,^\([a-z]*\)	,\1	$program ," "$log.tests" >>"$all"
    awk -F '\t' -v program="$program" '
    { n[$1]++ }
    END {
        printf "%-28s %4d passed %3d failed %3d skipped\n",
            program, n["passed"], n["failed"], n["skipped"]
    }' "$log.tests"
done

if grep -q '^skipped' "$all"; then
    echo
    echo "skipped, and why:"
    awk -F '\t' '$1 == "skipped" { print $3 }' "$all" | sort | uniq -c | sort -rn
fi
if grep -q '^failed' "$all"; then
    echo
    echo "failed (what they said is in $here/log):"
    awk -F '\t' '$1 == "failed" { print "  " $2 ($3 == "" ? "" : " (" $3 ")") }' "$all"
fi
echo
awk -F '\t' '
{ n[$1]++ }
END {
    printf "%d passed, %d failed, %d skipped\n", n["passed"], n["failed"], n["skipped"]
    exit n["failed"] > 0
}' "$all"
