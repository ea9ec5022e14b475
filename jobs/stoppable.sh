# Sourced by the job scripts (bash). `stoppable COMMAND...` runs it and returns its exit code. Meanwhile a USR1 to this
# shell asks the command to stop at a checkpoint; so does TERM, which also sets ended=1: somebody wants the job gone.
ended=0
stoppable() {
    local child code
    "$@" &
    child=$!
    trap 'kill -USR1 $child 2>/dev/null' USR1
    trap 'ended=1; kill -USR1 $child 2>/dev/null' TERM INT
    while
        wait "$child"
        kill -0 "$child" 2>/dev/null
    do :; done # it was a trap that ended the wait
    wait "$child"
    code=$?
    trap - USR1 TERM INT
    return "$code"
}

# Before the program: what comes ahead of its handlers is kept for them, and does not kill it.
guard="env --block-signal=USR1,USR2,TERM"
