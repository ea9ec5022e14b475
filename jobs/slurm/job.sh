# Sourced by the batch scripts (bash), which Slurm runs as copies elsewhere: VLGTR_HOME is where jobs/ lies, by default
# the folder that the job was submitted from.
VLGTR_HOME=${VLGTR_HOME:-$SLURM_SUBMIT_DIR}
. "$VLGTR_HOME/jobs/site.env" || exit 78
. "$VLGTR_HOME/jobs/stoppable.sh" || exit 78
restarts=${SLURM_RESTART_COUNT:-0}
task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
task=${task:-$SLURM_JOB_ID}

# ranks WORDS: the program on all ranks of the job; its exit code. srun returns 0 also where it could not start a single
# task, so rank 0, which is on this node, leaves a sign that it was there. From 22.05 on it takes the cores of a task only
# from its own words.
ranks() {
    local code sign
    case $VLGTR_LAUNCH in
    srun)
        sign=$(mktemp) || return 74
        stoppable srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} $VLGTR_SRUN $guard sh -c '[ "$SLURM_PROCID" -ne 0 ] || echo started >"$0"; exec "$@"' "$sign" "$VLGTR" "$@"
        code=$?
        [ $code -ne 0 ] || [ -s "$sign" ] || { echo "job $task: srun started no rank" >&2; code=69; }
        rm -f "$sign"
        return $code
        ;;
    mpirun) stoppable mpirun $VLGTR_BIND $VLGTR_MPIRUN -n "${SLURM_NTASKS:-1}" $guard "$VLGTR" "$@" ;;
    *)
        echo "VLGTR_LAUNCH=$VLGTR_LAUNCH is neither srun nor mpirun" >&2
        return 78
        ;;
    esac
}

# finish CODE: the end of the job. Back into the queue after 75 (stopped at a checkpoint), 69 (a peer or the network is
# gone) and deaths by a signal, unless somebody ended the job or it has come back often enough.
finish() {
    local code=$1
    trap - USR1 TERM INT
    if [ "$ended" -eq 0 ] && { [ "$code" -eq 75 ] || [ "$code" -eq 69 ] || [ "$code" -ge 128 ]; }; then
        if [ "$restarts" -ge "$VLGTR_MAX_RESTARTS" ]; then
            echo "job $task: $code after $restarts restarts, VLGTR_MAX_RESTARTS allows no more" >&2
        else
            echo "job $task: $code, back into the queue"
            scontrol requeue "$task" && sleep 600 # until Slurm has taken the job down
        fi
    fi
    exit "$code"
}
