#!/usr/bin/env bash
# Run ddb_jax on a Cloud TPU VM: create it, copy the project, install, run, follow the log, go on on
# a new one when it is preempted, fetch the results, delete it. docs/launch.md says more.
#
#     launch/tpu_vm.sh --name=bar --project=P --zone=Z --type=v5litepod-8 \
#         --version=v2-alpha-tpuv5-lite --spot --bucket=gs://B/runs -- --config=configs/bar.py
#
# --name=NAME            of the machine, and of the work directory
# --project, --zone, --type, --version    what gcloud calls them
# --spot                 cheaper, and may be preempted; needs --bucket
# --bucket=gs://FOLDER   on one worker the work directory is runs/NAME, saved as FOLDER/NAME.tar, from
#                        which a new machine goes on; on several it is FOLDER/NAME itself
# --save_every=MINUTES   how often the tar file is saved, besides at the end (15)
# --setup=COMMAND        run in the project's folder on every worker, before the run: to fetch data
# --results=FOLDER       where results and log are put here (runs/NAME)
# --restarts=N           how often the run may be lost and go on (10)
# --poll=SECONDS         between looks at the machine (30)
# --keep                 leave the machine, and with Ctrl-C the run on it, as they are
# --dry_run              print the commands of a run that is not preempted, and run none
#
# What follows -- goes to `python -m ddb_jax.main`. With --workdir=gs://FOLDER there the run writes to
# that folder, also on one worker, and --bucket is not needed.
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
workers=one
((BASH_REMATCH[1] <= 8)) || workers=several
[[ -z $bucket || $bucket == gs://?* ]] || fail "--bucket=$bucket does not begin with gs://."
[[ " $*" == *" --config"[=\ ]* ]] || fail "there is no --config=FILE.py behind --."

# What outlives the machine is `safe`: the work directory itself, or the tar file `saved` of it.
workdir="" saved="" arguments=()
for argument; do
    case $argument in
    --workdir=gs://?*) workdir=${argument#*=} ;;
    --workdir*) fail "the work directory is runs/$name, after --name, or --workdir=gs://FOLDER." ;;
    *) arguments+=("$argument") ;;
    esac
done
if [[ -n $workdir ]]; then
    [[ -z $bucket ]] || fail "--bucket has no use beside --workdir=gs://FOLDER."
elif [[ $workers == one ]]; then
    workdir=runs/$name saved=${bucket:+${bucket%/}/$name.tar}
else
    [[ -n $bucket ]] ||
        fail "$type has several workers, which all have to see the work directory: give --bucket."
    workdir=${bucket%/}/$name
fi
safe=$saved extra=tpu
[[ $workdir != gs://* ]] || safe=$workdir extra=tpu,gcs
[[ -z $spot || -n $safe ]] ||
    fail "--spot needs --bucket, since a preempted machine takes its disk with it."
[[ $workers == one ]] || arguments+=(--distributed)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=ddb_jax/runs/$name # on the machine, from the home folder; what lies there: on_tpu_vm.sh
on_vm="bash ddb_jax/launch/on_tpu_vm.sh"
results=${results:-$root/runs/$name}
scratch=/tmp/ddb_jax.XXXXXX
# shellcheck source=launch/tpu_machine.sh
source "$root/launch/tpu_machine.sh"

deploy() {
    local install="mkdir -p ddb_jax/runs && tar -xzf ddb_jax.tar.gz -C ddb_jax && cd ddb_jax"
    # The machine's Python may be older than ddb_jax needs; uv fetches one.
    install+=' && { command -v python3.12 >/dev/null || python3 -m pip install --user --quiet uv; }'
    # shellcheck disable=SC2016  # they expand on the machine
    install+=' && PATH=$HOME/.local/bin:$PATH bash launch/run.sh'
    install+=" --extra=$extra --install"
    call git -C "$root" archive --format=tar.gz --output="$scratch/ddb_jax.tar.gz" HEAD &&
        call gcloud compute tpus tpu-vm scp "$scratch/ddb_jax.tar.gz" "$name:" "${where[@]}" \
            --worker=all &&
        on_worker all "$install${setup:+ && $setup}"
}

# Workers that another one has left may not have noticed yet.
start_run() {
    local command
    printf -v command '%q ' run "$name" "$workdir" "$saved" "$save_every" "${arguments[@]}"
    command="nohup $on_vm ${command}>$run.log 2>&1 </dev/null & echo \$! >$run.pid"
    on_worker all "[[ ! -f $run.pid ]] || $on_vm stop $name; rm -f $run.exit_status $run.child; $command"
}

is_running() {
    on_worker all "[[ ! -f $run.exit_status ]] && kill -0 \"\$(cat $run.pid)\"" &>/dev/null
}

# Sets `outcome` once worker 0's run of several has ended. When one ends, all do: those that one has
# left with an error too, within minutes.
ask_all_workers() {
    local answer status failures=0 looks=0
    while true; do
        if ! answer=$(on_worker all "$on_vm status $name" 2>"$scratch/error" </dev/null); then
            cat "$scratch/error" >&2
            ((++failures < 3)) || outcome=lost
        elif [[ $answer == *": running"* ]]; then
            ((++looks < 10)) || outcome=lost
        else
            break
        fi
        [[ -z $outcome ]] || return 0
        sleep "$poll"
    done
    while read -r status; do
        case $status in
        0) ;;
        143) outcome=lost ;; # SIGTERM, and not from here: the machine is being shut down
        137 | died) [[ $outcome == lost ]] || outcome=killed ;;
        *) outcome=${outcome:-$status} ;;
        esac
    done < <(sed -n 's/^the run on [^ ]*: //p' <<<"$answer")
    outcome=${outcome:-0}
    [[ $outcome == 0 ]] || echo "$answer"
}

# Prints worker 0's log as it grows. Sets `outcome`: the run's exit status, `lost` with the machine,
# or `killed` on one of several workers.
follow() {
    local answer last offset=0 failures=0
    while true; do
        get_state
        if [[ $state == ACTIVE ]]; then
            if answer=$(on_worker 0 "$on_vm progress $name $offset" 2>"$scratch/error" </dev/null) &&
                last=${answer##*$'\n'} && [[ $last =~ ^([0-9]+)\ ([a-z0-9]+)$ ]]; then
                printf %s "${answer%$'\n'*}"
                offset=${BASH_REMATCH[1]} failures=0
                case $workers-${BASH_REMATCH[2]} in
                *-running) ;;
                several-*) ask_all_workers ;;
                one-143) outcome=lost ;; # as above
                one-died) say "something on the machine killed the run." && outcome=1 ;;
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
    on_worker 0 "$on_vm pack $name ${workdir@Q}" &&
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
            on_worker 0 "$on_vm stop $name" # which ends the others
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
    start_run
    on_worker 0 "$on_vm progress $name 0"
    [[ $workers == one ]] || on_worker all "$on_vm status $name"
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
    elif ! { deploy && start_run; }; then
        get_state
        [[ $state != ACTIVE ]] || fail "the machine could not be set up; what it says is above."
        outcome=lost
    fi
    started=yes
    [[ -n $outcome ]] || follow
    [[ $outcome == lost || $outcome == killed ]] || break
    [[ -n $safe ]] || fail "the machine was lost, and without --bucket the run with it."
    ((restarts-- > 0)) || fail "the run was lost once more than --restarts allows."
    started=""
    if [[ $outcome == killed ]]; then
        say "the run was killed on one worker; starting it again on all"
    else
        say "the machine was lost; going on on a new one"
        [[ $state != ACTIVE ]] || delete_machine || true
    fi
done

if ! fetch; then
    # Then the machine holds the only copy.
    [[ -n $safe ]] || keep=yes
    fail "the results could not be fetched${safe:+; they are in $safe}."
fi
say "the results are in $results"
exit "$outcome"
