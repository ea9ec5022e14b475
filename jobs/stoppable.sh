# Sourced by the job scripts (bash). From here on a USR1 to this shell is remembered as a request to stop at a checkpoint,
# asked=1, and handed on to the command that `stoppable` runs; so is TERM or INT, which also sets ended=1: somebody wants
# the job gone.
asked=0
ended=0
child=
trap 'asked=1; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null' USR1
trap 'asked=1; ended=1; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null' TERM INT

# stoppable COMMAND...: runs it and returns its exit code; 75 where a request came before.
stoppable() {
    local code
    [ $asked -eq 0 ] || return 75
    "$@" &
    child=$!
    [ $asked -eq 0 ] || kill -USR1 "$child" # it came just now
    while
        wait "$child"
        kill -0 "$child" 2>/dev/null
    do :; done # it was a trap that ended the wait
    wait "$child"
    code=$?
    child=
    return "$code"
}

# Before the program: what comes ahead of its handlers is kept for them, and does not kill it.
guard="env --block-signal=USR1,USR2,TERM"
