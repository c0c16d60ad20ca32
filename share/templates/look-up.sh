# Prints candidates for what begins with $2, of the kind $1; in the completions of all shells.
kind=$1 begins=$2 before=''
case $kind:$begins in # latency and count take more than the kernel's functions
timed:uprobe:* | counted:uprobe:*) kind=symbol before=uprobe: ;;
counted:tracepoint:*) kind=tracepoint before=tracepoint: ;;
esac
begins=${begins#"$before"}
case $kind in
kernel | timed | counted) # of all functions none is offered: there are too many
    case $kind:$begins in
    timed:u* | counted:u*) printf '%s\n' uprobe: ;;
    counted:t*) printf '%s\n' tracepoint: ;;
    esac
    [ -z "$begins" ] || BEGINS=$begins awk '
        function offer(name) { if (index(name, ENVIRON["BEGINS"]) == 1) print name }
        $2 !~ /^[tTwW]$/ || $3 ~ /^__(pfx|cfi)_|^\.|\.cold/ || $4 ~ /bpf|__builtin__/ { next }
        { offer($3) }
        index(ENVIRON["BEGINS"], ":") { offer(substr($4, 2, length($4) - 2) ":" $3) }
        sub(/^__(x64|arm64|riscv)_sys_/, "", $3) { offer($3) }
    ' /proc/kallsyms 2>/dev/null | sort -u
    ;;
tracepoint)
    for events in /sys/kernel/tracing/events /sys/kernel/debug/tracing/events; do
        [ -d "$events/sched" ] || continue
        (cd "$events" && printf '%s\n' */*/format) | sed 's,/format$,,; s,/,:,'
        break
    done
    ;;
symbol) # BINARY:SYMBOL, by the binary's own tables
    binary=${begins%%:*}
    file=$binary
    [ -f "$file" ] || file=$(
        PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | NAME=$binary awk '
            index($1, ENVIRON["NAME"] ".so") == 1 { print $NF; exit }'
    )
    [ -z "$file" ] || for table in -P -DP; do
        nm --defined-only $table "$file" 2>/dev/null
    done | BINARY=$binary awk '
        $2 ~ /[TtWi]/ { sub(/@.*/, "", $1); print ENVIRON["BINARY"] ":" $1 }' | sort -u
    ;;
pid) (cd /proc && printf '%s\n' [0-9]*) ;;
comm) cat /proc/[0-9]*/comm 2>/dev/null | grep -v '[[:cntrl:]]' | sort -u ;;
uid) cut -d: -f1 /etc/passwd ;;
cgroup) find /sys/fs/cgroup -type d 2>/dev/null ;;
esac | sed "s/^/$before/"
