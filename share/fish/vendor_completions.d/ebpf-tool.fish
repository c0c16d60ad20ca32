# Made by bin/make-share of ebpf-tool's help: do not edit.

function __ebpf_tool_look_up
    sh -c '# Prints candidates for what begins with $2, of the kind $1; in the completions of all shells.
kind=$1 begins=$2 before=\'\'
case $kind:$begins in # latency and count take more than the kernel\'s functions
timed:uprobe:* | counted:uprobe:*) kind=symbol before=uprobe: ;;
counted:tracepoint:*) kind=tracepoint before=tracepoint: ;;
esac
begins=${begins#"$before"}
case $kind in
kernel | timed | counted) # of all functions none is offered: there are too many
    case $kind:$begins in
    timed:u* | counted:u*) printf \'%s\\n\' uprobe: ;;
    counted:t*) printf \'%s\\n\' tracepoint: ;;
    esac
    [ -z "$begins" ] || BEGINS=$begins awk \'
        function offer(name) { if (index(name, ENVIRON["BEGINS"]) == 1) print name }
        $2 !~ /^[tTwW]$/ || $3 ~ /^__(pfx|cfi)_|^\\.|\\.cold/ || $4 ~ /bpf|__builtin__/ { next }
        { offer($3) }
        index(ENVIRON["BEGINS"], ":") { offer(substr($4, 2, length($4) - 2) ":" $3) }
        sub(/^__(x64|arm64|riscv)_sys_/, "", $3) { offer($3) }
    \' /proc/kallsyms 2>/dev/null | sort -u
    ;;
tracepoint)
    for events in /sys/kernel/tracing/events /sys/kernel/debug/tracing/events; do
        [ -d "$events/sched" ] || continue
        (cd "$events" && printf \'%s\\n\' */*/format) | sed \'s,/format$,,; s,/,:,\'
        break
    done
    ;;
symbol) # BINARY:SYMBOL, by the binary\'s own tables
    binary=${begins%%:*}
    file=$binary
    [ -f "$file" ] || file=$(
        PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | NAME=$binary awk \'
            index($1, ENVIRON["NAME"] ".so") == 1 { print $NF; exit }\'
    )
    [ -z "$file" ] || for table in -P -DP; do
        nm --defined-only $table "$file" 2>/dev/null
    done | BINARY=$binary awk \'
        $2 ~ /[TtWi]/ { sub(/@.*/, "", $1); print ENVIRON["BINARY"] ":" $1 }\' | sort -u
    ;;
pid) (cd /proc && printf \'%s\\n\' [0-9]*) ;;
comm) cat /proc/[0-9]*/comm 2>/dev/null | grep -v \'[[:cntrl:]]\' | sort -u ;;
uid) cut -d: -f1 /etc/passwd ;;
cgroup) find /sys/fs/cgroup -type d 2>/dev/null ;;
esac | sed "s/^/$before/"' sh $argv
end

# The words given, each behind what is there already up to the last comma.
function __ebpf_tool_list
    set -l head (commandline -ct | string replace -r '^--[a-z-]+=' '' | string match -r '.*,')
    test -n "$head"; or set head ''
    printf '%s\n' "$head"$argv
end

complete -c ebpf-tool -f

complete -c ebpf-tool -n __fish_use_subcommand -a kprobe -d 'a line for each call of kernel functions: who called, with what'
complete -c ebpf-tool -n __fish_use_subcommand -a kretprobe -d 'a line for each return of kernel functions: what came back, and when'
complete -c ebpf-tool -n __fish_use_subcommand -a uprobe -d 'a line for each call of functions of programs and libraries'
complete -c ebpf-tool -n __fish_use_subcommand -a uretprobe -d 'a line for each return of functions of programs and libraries'
complete -c ebpf-tool -n __fish_use_subcommand -a tracepoint -d 'a line for each hit of the kernel\'s tracepoints, with their fields'
complete -c ebpf-tool -n __fish_use_subcommand -a latency -d 'a histogram of the time that calls take, made in the kernel'
complete -c ebpf-tool -n __fish_use_subcommand -a count -d 'how many calls there are, and whose, counted in the kernel'
complete -c ebpf-tool -n __fish_use_subcommand -a list -d 'the functions that kprobe can take, with their parameters'
complete -c ebpf-tool -n __fish_use_subcommand -a doctor -d 'what works here, what does not, why, and what to do about it'
complete -c ebpf-tool -n __fish_use_subcommand -a replay -d 'a recorded trace, on any machine, without root'
complete -c ebpf-tool -n __fish_use_subcommand -a schema -d 'a struct of a BPF object file as Python source, or all their names'
complete -c ebpf-tool -n __fish_use_subcommand -a skeleton -d 'a typed Python module that carries an object file and all its names'
complete -c ebpf-tool -n '__fish_seen_subcommand_from kprobe' -a '(__ebpf_tool_look_up kernel (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from kretprobe' -a '(__ebpf_tool_look_up kernel (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from latency' -a '(__ebpf_tool_look_up timed (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from count' -a '(__ebpf_tool_look_up counted (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from list' -a '(__ebpf_tool_look_up kernel (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from uprobe' -F -a '(__ebpf_tool_look_up symbol (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from uretprobe' -F -a '(__ebpf_tool_look_up symbol (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from tracepoint' -a '(__ebpf_tool_look_up tracepoint (commandline -ct))'
complete -c ebpf-tool -n '__fish_seen_subcommand_from replay' -k -a '(__fish_complete_suffix .rec)'
complete -c ebpf-tool -n '__fish_seen_subcommand_from schema' -k -a '(__fish_complete_suffix .o)'
complete -c ebpf-tool -n '__fish_seen_subcommand_from skeleton' -k -a '(__fish_complete_suffix .o)'
complete -c ebpf-tool -s d -l duration -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -x -d 'how long to trace; 0: until Ctrl-C'
complete -c ebpf-tool -l arg -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint count' -x -d 'an argument, or what is behind it: name:str, how.flags'
complete -c ebpf-tool -l all -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe latency count' -d 'all functions of the name, and the compiler\'s variants of it'
complete -c ebpf-tool -l address -n '__fish_seen_subcommand_from kprobe kretprobe latency count' -x -d 'that one of several functions of the name'
complete -c ebpf-tool -l dry-run -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -d 'print what would be attached, how and at what cost'
complete -c ebpf-tool -l object -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -r -F -d 'another build of kprobe.bpf.o'
complete -c ebpf-tool -s n -l events -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint' -x -d 'stop after so many events'
complete -c ebpf-tool -s k -l kernel-stack -n '__fish_seen_subcommand_from kprobe kretprobe tracepoint' -d 'who called it, in the kernel'
complete -c ebpf-tool -s u -l user-stack -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint' -d 'who called it, in the program'
complete -c ebpf-tool -l args -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint' -d 'all arguments, by their names and types'
complete -c ebpf-tool -l record -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint' -r -F -d 'also write the trace to FILE, for replay'
complete -c ebpf-tool -l unsorted -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint' -d 'lines as they come, not in the order of their times'
complete -c ebpf-tool -l line-buffered -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint' -d 'write each line at once, to a pipe or file, too'
complete -c ebpf-tool -l buffer -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint' -x -d 'each CPU\'s buffer, as 512K or 16M; a power of two is taken'
complete -c ebpf-tool -l slower -n '__fish_seen_subcommand_from kretprobe uretprobe' -x -d 'only calls that took longer, in milliseconds'
complete -c ebpf-tool -l failed -n '__fish_seen_subcommand_from kretprobe uretprobe' -d 'only calls that returned an error'
complete -c ebpf-tool -l ret -n '__fish_seen_subcommand_from kretprobe uretprobe' -x -a 'dec hex str' -d 'dec, hex or str, and more as of --arg: how it is printed'
complete -c ebpf-tool -s i -l interval -n '__fish_seen_subcommand_from latency count' -x -d 'print what was in so many seconds, again and again'
complete -c ebpf-tool -l by -n '__fish_seen_subcommand_from latency count' -x -a '(__ebpf_tool_list function comm pid tid uid cpu stack kernel-stack user-stack)' -d 'function, comm, pid, tid, uid, cpu, stack, kernel-stack or user-stack, or several: comm,pid'
complete -c ebpf-tool -l top -n '__fish_seen_subcommand_from latency count' -x -d 'only the N largest'
complete -c ebpf-tool -l linear -n '__fish_seen_subcommand_from latency' -x -d 'equal steps, as 0:10ms:500us, not powers of two'
complete -c ebpf-tool -l plot -n '__fish_seen_subcommand_from latency' -r -F -d 'the histogram as a picture, FILE.svg'
complete -c ebpf-tool -s p -l pid -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count replay' -x -a '(__ebpf_tool_look_up pid (commandline -ct))' -d 'only by this process'
complete -c ebpf-tool -l tid -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -x -a '(__ebpf_tool_look_up pid (commandline -ct))' -d 'only by this thread'
complete -c ebpf-tool -l uid -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -x -a '(__ebpf_tool_look_up uid (commandline -ct))' -d 'only by this user, a number or a name'
complete -c ebpf-tool -l comm -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -x -a '(__ebpf_tool_look_up comm (commandline -ct))' -d 'only by processes of this name, or pattern (\'cron*\')'
complete -c ebpf-tool -l cgroup -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -x -a '(__ebpf_tool_look_up cgroup (commandline -ct))' -d 'only within this cgroup, a path or a container\'s id'
complete -c ebpf-tool -l cpu -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -x -d 'only on these CPUs, as 0,2-3'
complete -c ebpf-tool -l filter -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -x -d 'only if it is true of the arguments: \'count > 4096\''
complete -c ebpf-tool -l sample -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint count' -x -d 'one call of N, by chance'
complete -c ebpf-tool -l include-self -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -d 'ebpf-tool\'s own calls, too'
complete -c ebpf-tool -l fields -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint replay' -x -a '(__ebpf_tool_list time pid tid comm uid cpu function args)' -d 'columns, as time,pid,tid,comm,uid,cpu,function,args'
complete -c ebpf-tool -l show-tid -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint replay' -d 'print [pid/tid]'
complete -c ebpf-tool -l time -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint replay' -x -a 'ns boot wall' -d 'ns: nanoseconds since boot; boot: seconds since boot; wall: date, time and zone'
complete -c ebpf-tool -l raw-args -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint replay' -d 'print numbers as they are, unsigned'
complete -c ebpf-tool -l json -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count doctor replay' -d 'one JSON object per line'
complete -c ebpf-tool -l format -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint replay' -x -a 'lines json folded chrome-trace parquet otlp' -d 'lines, json, folded, chrome-trace, parquet or otlp'
complete -c ebpf-tool -l format -n '__fish_seen_subcommand_from count' -x -a 'lines json folded' -d 'lines, json or folded'
complete -c ebpf-tool -l endpoint -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint replay' -x -d 'where otlp goes; else http://localhost:4318'
complete -c ebpf-tool -l color -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count replay' -x -a 'auto always never' -d 'auto: on a terminal; always; never'
complete -c ebpf-tool -s o -l output -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count replay' -r -F -d 'write to FILE, not to stdout'
complete -c ebpf-tool -l strict -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count replay' -d 'any loss is exit status 3'
complete -c ebpf-tool -s q -l quiet -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count replay' -d 'nothing on stderr but errors'
complete -c ebpf-tool -s v -l verbose -n '__fish_seen_subcommand_from kprobe kretprobe uprobe uretprobe tracepoint latency count' -d 'libbpf\'s own log, too, as by EBPF_TOOL_LOG=debug'
complete -c ebpf-tool -l package -n '__fish_seen_subcommand_from skeleton' -x -d 'where the module finds the library: .vendor.libbpf_ctypes'
complete -c ebpf-tool -s h -l help -d 'this text; after a COMMAND, that command\'s on one screen'
complete -c ebpf-tool -l version -d 'versions of ebpf-tool and libbpf'
