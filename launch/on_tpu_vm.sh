#!/usr/bin/env bash
# What launch/tpu_vm.sh calls on each worker of the machine, or on worker 0; NAME is of the run.
#
#     on_tpu_vm.sh run NAME WORKDIR SAVED MINUTES ARGUMENTS...
#                                        run ddb_jax with these arguments; with SAVED, an object of a
#                                        bucket, WORKDIR is runs/NAME, read from it and saved to it
#     on_tpu_vm.sh progress NAME BYTES   what the log holds behind so many bytes
#     on_tpu_vm.sh status NAME           what became of the run here, and the end of its log
#     on_tpu_vm.sh pack NAME WORKDIR     the results as one file
#     on_tpu_vm.sh stop NAME             end the run, which saves first
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Beside runs/NAME lie .log, .pid (of `run`), .child (of Python), .exit_status and .tar.
command=$1 name=$2 run=runs/$2
shift 2

restore() {
    local answer
    [[ -n $saved && ! -d $run ]] || return 0
    if answer=$(gcloud storage ls "$saved" 2>&1); then
        echo "going on from $saved"
        gcloud storage cp --quiet "$saved" "$run.tar" &&
            tar --extract --file="$run.tar" --directory=runs
    elif [[ $answer != *"matched no objects"* ]]; then
        echo "error: $saved cannot be read: $answer"
        return 1
    fi
}

# An object of a bucket is replaced as a whole or not at all. The run is frozen while it is copied:
# what is saved is a state that a kill would leave, which is what the work directory is made for.
save() {
    local status=0
    [[ -n $saved && -d $run ]] || return 0
    kill -STOP "$child" 2>/dev/null || true
    tar --create --file="$run.tar" --directory=runs "$name" || status=$?
    kill -CONT "$child" 2>/dev/null || true
    ((status)) || gcloud storage cp --quiet "$run.tar" "$saved" || status=$?
    ((status == 0)) || echo "warning: the work directory could not be saved to $saved"
}

run_and_save() {
    local workdir=$1 saved=$2 minutes=$3 child status=0 extra=tpu
    shift 3
    [[ $workdir != gs://* ]] || extra=tpu,gcs
    # A machine that shuts down sends SIGTERM to every process: Python saves, and then this shell.
    trap : TERM
    restore || status=$?
    if ((status == 0)); then
        bash launch/run.sh --extra="$extra" "$@" --workdir="$workdir" &
        child=$!
        echo "$child" >"$run.child"
        while kill -0 "$child" 2>/dev/null; do
            timeout "${minutes}m" tail --pid="$child" --sleep-interval=0.2 -f /dev/null || true
            save
        done
        wait "$child" || status=$?
    fi
    echo "$status" >"$run.exit_status"
}

# `running`, the exit status, or `died` for a run that was killed before it could write one.
state() {
    if [[ -f $run.exit_status ]]; then
        cat "$run.exit_status"
    elif kill -0 "$(<"$run.pid")" 2>/dev/null || kill -0 "$(<"$run.child")" 2>/dev/null; then
        echo running
    else
        echo died
    fi
}

# Prints what the log has behind the offset, and a last line: its size, and the state.
progress() {
    local offset=$1 state size
    # Before the size: when the state says that the run has ended, the log is complete.
    state=$(state)
    size=$(wc -c <"$run.log")
    tail -c "+$((offset + 1))" "$run.log" | head -c "$((size - offset))" || true
    printf '\n%s %s\n' "$size" "$state"
}

# Worker 0's log is followed, the others' are seen only here. All answer at once: in whole lines.
status() {
    local state
    state=$(state)
    echo "the run on $HOSTNAME: $state"
    [[ $state =~ ^(0|running)$ ]] ||
        tr '\r' '\n' <"$run.log" | tail -n 5 | sed "s/^/$HOSTNAME: /; \$a\\"
}

# The log, and the files at the top of the work directory: report.html, results.csv and the like.
pack() {
    local workdir=$1 files
    mkdir -p "$run"
    if [[ $workdir == gs://* ]]; then
        # A folder's name ends in /. There is none of them where the run has failed at its start.
        mapfile -t files < <(gcloud storage ls "$workdir/" | grep '[^/:]$')
        ((${#files[@]} == 0)) || gcloud storage cp --quiet "${files[@]}" "$run/"
    fi
    cp "$run.log" "$run/run.log"
    find "$run" -maxdepth 1 -type f ! -name '.*' -printf '%f\0' |
        tar --create --gzip --file="$run.results.tar.gz" --directory="$run" --null --files-from=-
}

stop() {
    [[ $(state) != running ]] || kill -TERM "$(<"$run.child")" || true
    while [[ $(state) == running ]]; do sleep 0.5; done
}

case $command in
run) run_and_save "$@" ;;
progress) progress "$@" ;;
status) status ;;
pack) pack "$@" ;;
stop) stop ;;
esac
