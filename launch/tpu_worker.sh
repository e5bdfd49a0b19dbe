#!/usr/bin/env bash
# What launch/tpu_vm.sh calls on the workers of a machine: `start ARGUMENTS...` of ddb_jax, `running`,
# `stop`, `follow LINES`: the log from so many lines back until the run ends, then its exit status.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
running() { [[ -f run.pid && ! -f run.status ]] && kill -0 -- "-$(<run.pid)" 2>/dev/null; }

case $1 in
start)
    bash launch/tpu_worker.sh stop # a run that another worker has left
    rm -f run.status
    setsid bash launch/tpu_worker.sh run "${@:2}" >run.log 2>&1 </dev/null &
    echo $! >run.pid
    until [[ -f run.status ]] || running; do sleep 0.1; done
    ;;
run)
    trap : TERM # on which Python saves; the shell waits for it
    status=0
    bash launch/run.sh --extra=tpu,gcs "${@:2}" || status=$?
    echo "$status" >run.status
    ;;
running) running ;;
follow)
    tail --lines="$2" --sleep-interval=0.1 --pid=$$ -f run.log &
    while running; do sleep 0.3; done
    sleep 0.3 && kill $!
    printf '\nthe run on %s: %s\n' "$HOSTNAME" "$(cat run.status || echo died)"
    ;;
stop)
    ! running || kill -TERM -- "-$(<run.pid)" || true
    while running; do sleep 0.3; done
    ;;
esac
