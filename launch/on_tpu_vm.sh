#!/usr/bin/env bash
# What launch/tpu_vm.sh calls on the machine; NAME is of the run, its work directory runs/NAME.
#
#     on_tpu_vm.sh run NAME SAVED MINUTES ARGUMENTS...  run ddb_jax with these arguments, go on from
#                                                       the object SAVED of a bucket, and save there
#     on_tpu_vm.sh progress NAME BYTES                  what the log holds behind so many bytes
#     on_tpu_vm.sh pack NAME                            the results as one file
#     on_tpu_vm.sh stop NAME                            end the run, which saves first
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Beside the work directory lie .log, .pid (of `run`), .child (of Python), .exit_status and .tar.
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
    local saved=$1 minutes=$2 child status=0
    shift 2
    # A machine that shuts down sends SIGTERM to every process: Python saves, and then this shell.
    trap : TERM
    restore || status=$?
    if ((status == 0)); then
        bash launch/run.sh --extra=tpu "$@" --workdir="$run" &
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

# Prints what the log has behind the offset, and a last line: its size, and `running`, the exit
# status, or `died` for a run that was killed before it could write one.
progress() {
    local offset=$1 state=died size
    # Before the size: when the state says that the run has ended, the log is complete.
    if [[ -f $run.exit_status ]]; then
        state=$(<"$run.exit_status")
    elif kill -0 "$(<"$run.pid")" 2>/dev/null; then
        state=running
    fi
    size=$(wc -c <"$run.log")
    tail -c "+$((offset + 1))" "$run.log" | head -c "$((size - offset))" || true
    printf '\n%s %s\n' "$size" "$state"
}

# The log, and the files at the top of the work directory: report.html, results.csv and the like.
pack() {
    mkdir -p "$run"
    cp "$run.log" "$run/run.log"
    find "$run" -maxdepth 1 -type f ! -name '.*' -printf '%f\0' |
        tar --create --gzip --file="$run.results.tar.gz" --directory="$run" --null --files-from=-
}

stop() {
    kill -TERM "$(<"$run.child")"
    while [[ ! -f $run.exit_status ]] && kill -0 "$(<"$run.pid")" 2>/dev/null; do sleep 0.5; done
}

case $command in
run) run_and_save "$@" ;;
progress) progress "$@" ;;
pack) pack ;;
stop) stop ;;
esac
