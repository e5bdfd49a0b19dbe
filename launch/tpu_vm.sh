#!/usr/bin/env bash
# Run ddb_jax on a Cloud TPU VM: create it, copy the project, install, run, follow the log, go on on
# a new one when it is preempted, fetch the results, delete it. docs/launch.md says more.
#
#     launch/tpu_vm.sh --name=bar --project=P --zone=Z --type=v5litepod-8 \
#         --version=v2-alpha-tpuv5-lite --spot --bucket=gs://B/runs -- --config=configs/bar.py
#
# --name=NAME            of the machine, and of the work directory on it (runs/NAME)
# --project, --zone, --type, --version    what gcloud calls them; a type of one worker
# --spot                 cheaper, and may be preempted; needs --bucket
# --bucket=gs://FOLDER   where the work directory is saved (FOLDER/NAME.tar), and read from by a new
#                        machine
# --save_every=MINUTES   how often it is saved, besides at the end (15)
# --setup=COMMAND        run in the project's folder on a new machine, before the run: to fetch data
# --results=FOLDER       where results and log are put here (runs/NAME)
# --restarts=N           how many lost machines are replaced (10)
# --poll=SECONDS         between looks at the machine (30)
# --keep                 leave the machine, and with Ctrl-C the run on it, as they are
# --dry_run              print the commands of a run that is not preempted, and run none
#
# What follows -- goes to `python -m ddb_jax.main`.
set -euo pipefail

say() { echo "tpu_vm.sh: $*"; }

fail() {
    echo "error: $*" >&2
    exit 1
}

# Print a command as a shell reads it, or run it.
call() {
    local word line=""
    if [[ -n $dry_run ]]; then
        for word in "$@"; do
            [[ $word =~ ^[-[:alnum:]_=:./,]+$ ]] || word=${word@Q}
            line+=" $word"
        done
        echo "${line:1}"
    else
        "$@"
    fi
}

name="" project="" zone="" type="" version="" spot="" bucket="" save_every=15 setup="" results=""
restarts=10 poll=30 keep="" dry_run=""
while (($#)); do
    case $1 in
    --name=* | --project=* | --zone=* | --type=* | --version=* | --bucket=* | --save_every=* | \
        --setup=* | --results=* | --restarts=* | --poll=*)
        option=${1%%=*}
        printf -v "${option#--}" %s "${1#*=}"
        ;;
    --spot) spot=--spot ;;
    --keep) keep=yes ;;
    --dry_run) dry_run=yes ;;
    --)
        shift
        break
        ;;
    *) fail "$1 is not an option of tpu_vm.sh; what is for ddb_jax.main follows --." ;;
    esac
    shift
done
[[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] ||
    fail "--name=$name has to be made of lower-case letters, digits and hyphens."
for option in project zone type version; do
    [[ -n ${!option} ]] || fail "--$option is missing."
done
[[ $type =~ -([0-9]+)$ ]] || fail "--type=$type has to end in a number, as in v5litepod-8."
((BASH_REMATCH[1] <= 8)) ||
    fail "$type has several workers, and ddb_jax runs on one host: take a type of at most -8."
[[ -z $bucket || $bucket == gs://?* ]] || fail "--bucket=$bucket does not begin with gs://."
[[ -z $spot || -n $bucket ]] ||
    fail "--spot needs --bucket, since a preempted machine takes its disk with it."
[[ " $*" == *" --config"[=\ ]* ]] || fail "there is no --config=FILE.py behind --."
[[ " $*" != *" --workdir"* ]] || fail "the work directory is runs/$name, after --name."

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=ddb_jax/runs/$name # on the machine, from the home folder; what lies there: on_tpu_vm.sh
on_vm="bash ddb_jax/launch/on_tpu_vm.sh"
saved=${bucket:+${bucket%/}/$name.tar}
results=${results:-$root/runs/$name}
scratch=/tmp/ddb_jax.XXXXXX
where=(--project="$project" --zone="$zone" --quiet)
describe=(gcloud compute tpus queued-resources describe "$name" "${where[@]}")

# A connection to a machine that has gone is to fail, not to hang.
on_machine() {
    call gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all \
        --ssh-flag=-oConnectTimeout=20 --ssh-flag=-oServerAliveInterval=30 --command="$1"
}

create_machine() {
    call gcloud compute tpus queued-resources create "$name" --node-id="$name" "${where[@]}" \
        --accelerator-type="$type" --runtime-version="$version" \
        --scopes=https://www.googleapis.com/auth/cloud-platform ${spot:+"$spot"}
}

delete_machine() { call gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force; }

# Sets `state`: what gcloud says, NONE where there is no such machine, UNKNOWN without an answer.
get_state() {
    if ! state=$("${describe[@]}" "--format=value(state.state)" 2>"$scratch/error"); then
        state=NONE
        if ! grep -qE 'NOT_FOUND|was not found' "$scratch/error"; then
            cat "$scratch/error" >&2
            state=UNKNOWN
        fi
    fi
}

# Returns when there is a machine. A request that was suspended, or failed earlier, is replaced.
ensure_machine() {
    local created="" unanswered=0 previous=""
    while true; do
        get_state
        [[ $state == "$previous" ]] || say "$name is $state"
        previous=$state
        case $state in
        ACTIVE) return ;;
        NONE)
            create_machine || fail "the machine could not be created."
            created=yes
            ;;
        SUSPENDED) delete_machine || fail "the suspended request could not be deleted." ;;
        FAILED)
            if [[ -n $created ]]; then
                "${describe[@]}" >&2 || true
                fail "the request for a machine has failed; gcloud says why above."
            fi
            delete_machine || fail "the failed request could not be deleted."
            ;;
        UNKNOWN) ((++unanswered < 5)) || fail "gcloud does not answer; what it says is above." ;;
        *) ;; # waiting, or on its way to one of the others
        esac
        sleep "$poll"
    done
}

deploy() {
    local install="mkdir -p ddb_jax/runs && tar -xzf ddb_jax.tar.gz -C ddb_jax && cd ddb_jax"
    # The machine's Python may be older than ddb_jax needs; uv fetches one.
    install+=' && { command -v python3.12 >/dev/null || python3 -m pip install --user --quiet uv; }'
    # shellcheck disable=SC2016  # they expand on the machine
    install+=' && PATH=$HOME/.local/bin:$PATH bash launch/run.sh --extra=tpu --install'
    call git -C "$root" archive --format=tar.gz --output="$scratch/ddb_jax.tar.gz" HEAD &&
        call gcloud compute tpus tpu-vm scp "$scratch/ddb_jax.tar.gz" "$name:" "${where[@]}" \
            --worker=all &&
        on_machine "$install${setup:+ && $setup}"
}

start_run() {
    local arguments
    printf -v arguments '%q ' run "$name" "$saved" "$save_every" "$@"
    on_machine "rm -f $run.exit_status; nohup $on_vm ${arguments}>$run.log 2>&1 </dev/null & echo \$! >$run.pid"
}

is_running() {
    on_machine "[[ ! -f $run.exit_status ]] && kill -0 \"\$(cat $run.pid)\"" &>/dev/null
}

# Prints the log as it grows. Sets `outcome`: the run's exit status, or `lost` with the machine.
follow() {
    local answer last offset=0 failures=0
    while true; do
        get_state
        if [[ $state == ACTIVE ]]; then
            if answer=$(on_machine "$on_vm progress $name $offset" 2>"$scratch/error" </dev/null) &&
                last=${answer##*$'\n'} && [[ $last =~ ^([0-9]+)\ ([a-z0-9]+)$ ]]; then
                printf %s "${answer%$'\n'*}"
                offset=${BASH_REMATCH[1]} failures=0
                case ${BASH_REMATCH[2]} in
                running) ;;
                # SIGTERM, and not from here: the machine is being shut down.
                143) outcome=lost ;;
                died) say "something on the machine killed the run." && outcome=1 ;;
                *) outcome=${BASH_REMATCH[2]} ;;
                esac
            else
                cat "$scratch/error" >&2
                ((++failures < 3)) || outcome=lost
            fi
        elif [[ $state != UNKNOWN ]]; then # without an answer it may be the connection from here
            outcome=lost
        fi
        [[ -z $outcome ]] || return 0
        sleep "$poll"
    done
}

fetch() {
    on_machine "$on_vm pack $name" &&
        call gcloud compute tpus tpu-vm scp "$name:$run.results.tar.gz" \
            "$scratch/results.tar.gz" "${where[@]}" &&
        call mkdir -p "$results" &&
        call tar -xzf "$scratch/results.tar.gz" -C "$results"
}

# However the script ends, it leaves no machine that costs money, unless it is asked to.
# shellcheck disable=SC2317,SC2329  # trap calls it
clean_up() {
    local status=$?
    trap - EXIT INT TERM HUP
    set +e
    if [[ -n $keep ]]; then
        say "$name is kept; to delete it:" \
            "gcloud compute tpus queued-resources delete $name ${where[*]} --force"
    else
        if [[ -n $started && -z $outcome ]]; then
            say "stopping the run, which saves first"
            on_machine "$on_vm stop $name"
        fi
        get_state
        if [[ $state != NONE ]] && ! delete_machine; then
            echo "error: $name could not be deleted, and may go on costing money." >&2
            status=1
        fi
    fi
    rm -rf "$scratch"
    exit "$status"
}

if [[ -n $dry_run ]]; then
    call "${describe[@]}" "--format=value(state.state)"
    create_machine
    deploy
    start_run "$@"
    on_machine "$on_vm progress $name 0"
    fetch
    [[ -n $keep ]] || delete_machine
    exit
fi

[[ -z $(git -C "$root" status --porcelain) ]] || say "what is not committed is not copied."
started="" outcome=""
scratch=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

while true; do
    outcome=""
    ensure_machine
    if is_running; then
        say "following the run that is there"
    elif ! { deploy && start_run "$@"; }; then
        get_state
        [[ $state != ACTIVE ]] || fail "the machine could not be set up; what it says is above."
        outcome=lost
    fi
    started=yes
    [[ -n $outcome ]] || follow
    [[ $outcome == lost ]] || break
    [[ -n $bucket ]] || fail "the machine was lost, and without --bucket the run with it."
    ((restarts-- > 0)) || fail "the machine was lost once more than --restarts allows."
    say "the machine was lost; going on on a new one"
    started=""
    [[ $state != ACTIVE ]] || delete_machine || true
done

if ! fetch; then
    # Then the machine holds the only copy.
    [[ -n $saved ]] || keep=yes
    fail "the results could not be fetched${saved:+; they are in $saved}."
fi
say "the results are in $results"
exit "$outcome"
