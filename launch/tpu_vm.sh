#!/usr/bin/env bash
# Run ddb_jax on a Cloud TPU VM, with a work directory on a bucket: create the machine, install, run
# on all workers, follow, go on after a preemption, delete the machine. docs/launch.md says more.
#
#     launch/tpu_vm.sh --name=bar --project=P --zone=Z --type=v5litepod-8 \
#         --version=v2-alpha-tpuv5-lite --spot -- --config=configs/bar.py --workdir=gs://B/runs/bar
#
# --setup=COMMAND   run in the project's folder on every worker, before the run: to fetch data
# --restarts=N      how often the run may be lost and go on (10)
# --poll=SECONDS    between looks at the machine (30)
# --keep            leave the machine, and with Ctrl-C the run on it, as they are
# --dry_run         print the commands of a run that is not preempted, and run none
set -euo pipefail
say() { echo "tpu_vm.sh: $*"; }
fail() { echo "error: $*" >&2 && exit 1; }
call() { if [[ -n $dry_run ]]; then echo "${@@Q}"; else "$@"; fi; }

name="" project="" zone="" type="" version="" spot="" setup="" restarts=10 poll=30 keep="" dry_run=""
while (($#)) && [[ $1 != -- ]]; do
    [[ $1 =~ ^--((name|project|zone|type|version|setup|restarts|poll)=|spot$|keep$|dry_run$) ]] ||
        fail "$1 is not an option of tpu_vm.sh; what is for ddb_jax.main follows --."
    option=${1%%=*} && printf -v "${option#--}" %s "${1#*=}" && shift
done
for option in name project zone type version; do
    [[ -n ${!option} ]] || fail "--$option is missing."
done
[[ $type =~ -([0-9]+)$ ]] || fail "--type=$type has to end in a number, as in v5litepod-8."
arguments=("${@:2}")
((BASH_REMATCH[1] <= 8)) || arguments+=(--distributed) # it has several workers
[[ " $*" == *" --config"[=\ ]* ]] || fail "there is no --config=FILE.py behind --."
[[ " $*" =~ " --workdir="(gs://[^ ]+) ]] || fail "there is no --workdir=gs://FOLDER behind --."
workdir=${BASH_REMATCH[1]}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
where=(--project="$project" --zone="$zone" --quiet)
machine=(--node-id="$name" --accelerator-type="$type" --runtime-version="$version" ${spot:+"$spot"}
    --scopes=https://www.googleapis.com/auth/cloud-platform)
worker="bash ddb_jax/launch/tpu_worker.sh"
started="" outcome="" follower="" scratch=$(mktemp -d)

queued() { call gcloud compute tpus queued-resources "$1" "$name" "${where[@]}" "${@:2}"; }
on_workers() { # a connection to a machine that has gone is to fail, not to hang
    call gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all \
        --ssh-flag=-oConnectTimeout=20 --ssh-flag=-oServerAliveInterval=30 --command="$1" </dev/null
}

# Sets `state`: what gcloud says, NONE where there is no such machine, UNKNOWN without an answer.
get_state() {
    state=$(queued describe "--format=value(state.state)" 2>"$scratch/error") || state=UNKNOWN
    ! grep -qE 'NOT_FOUND|was not found' "$scratch/error" || state=NONE
    [[ $state != UNKNOWN ]] || cat "$scratch/error" >&2
}

# Returns when there is a machine. A request that was suspended, or failed earlier, is replaced.
ensure_machine() {
    local created="" unanswered=0
    while get_state && [[ $state != ACTIVE ]]; do
        say "$name is $state"
        case $state$created in
        NONE*) queued create "${machine[@]}"; created=-created ;;
        FAILED-created) queued describe && fail "the request has failed; gcloud says why above." ;;
        SUSPENDED* | FAILED) queued delete --force ;;
        *) [[ $state != UNKNOWN ]] || ((++unanswered < 5)) || fail "gcloud does not answer; what it says is above." ;;
        esac
        sleep "$poll"
    done
}

# Copies the last commit, installs it, starts the run. uv helps where the machine's Python is old.
start() {
    local install="mkdir -p ddb_jax && tar -xzf ddb_jax.tar.gz -C ddb_jax && cd ddb_jax" quoted
    install+=' && { command -v python3.12 >/dev/null || python3 -m pip install --user --quiet uv; }'
    install+=" && PATH=\$HOME/.local/bin:\$PATH bash launch/run.sh --extra=tpu,gcs --install"
    printf -v quoted ' %q' "${arguments[@]}"
    call git -C "$root" archive --format=tar.gz --output="$scratch/ddb_jax.tar.gz" HEAD &&
        call gcloud compute tpus tpu-vm scp "$scratch/ddb_jax.tar.gz" "$name:" "${where[@]}" \
            --worker=all && on_workers "$install${setup:+ && $setup}" &&
        on_workers "$worker start$quoted"
}

# Prints the log until the run has ended on all workers. Sets `outcome`: the highest exit status, or
# `lost` where something killed the run or the machine gives no answer.
follow() {
    local lines=+1 failures=0 begin states
    started=yes outcome=running
    while begin=$SECONDS; do
        set -m # a process group of its own: Ctrl-C is for this script, which ends the connection
        { on_workers "$worker follow $lines" | tee "$scratch/log"; } &
        follower=$!
        set +m
        ! wait "$follower" || break
        ((SECONDS - begin < 300)) || failures=0
        get_state # without an answer it may be the connection from here
        [[ $state == UNKNOWN ]] || ((++failures < 3)) || { outcome=lost && return; }
        lines=10 && sleep "$poll"
    done
    states=$(sed -n 's/^the run on [^ ]*: //p' "$scratch/log" | sort -n)
    outcome=$(tail -n 1 <<<"$states")
    # 143 is a SIGTERM that is not from here: the machine is being shut down.
    ! grep -qxE '137|143|died' <<<"$states" || outcome=lost
}

# However the script ends, it leaves no machine that costs money, unless it is asked to.
# shellcheck disable=SC2317,SC2329  # trap calls it
clean_up() {
    local status=$?
    trap - EXIT INT TERM HUP
    set +e
    [[ -z $follower ]] || kill -- "-$follower" 2>/dev/null
    if [[ -z $keep$dry_run ]]; then
        [[ $outcome != running ]] || on_workers "$worker stop"
        get_state
        [[ $state == NONE ]] || queued delete --force ||
            { status=1 && echo "error: $name could not be deleted, and may cost money." >&2; }
    fi
    rm -rf "$scratch"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [[ -n $dry_run ]]; then
    queued create "${machine[@]}" && start && on_workers "$worker follow +1"
    queued delete --force && exit
fi
[[ -z $(git -C "$root" status --porcelain) ]] || say "what is not committed is not copied."
while true; do
    ensure_machine
    if on_workers "$worker running" &>/dev/null || start; then
        follow
        [[ $outcome == lost ]] || break
    else
        get_state
        [[ $state$started != ACTIVE ]] || fail "the machine could not be set up; see above."
        queued delete --force || true
    fi
    ((restarts-- > 0)) || fail "the run was lost once more than --restarts allows."
    say "the run was lost; going on from $workdir"
done
say "the results are in $workdir"
exit "$outcome"
