# shellcheck shell=bash disable=SC2154
# The machine of launch/tpu_vm.sh, which sources this file: ask for it, wait for it, run commands on
# its workers, delete it.

where=(--project="$project" --zone="$zone" --quiet)
describe=(gcloud compute tpus queued-resources describe "$name" "${where[@]}")

# Run a command on worker 0, or on all; on all it fails where it fails on any. A connection to a
# machine that has gone is to fail, not to hang.
on_worker() {
    call gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="$1" \
        --ssh-flag=-oConnectTimeout=20 --ssh-flag=-oServerAliveInterval=30 --command="$2"
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
