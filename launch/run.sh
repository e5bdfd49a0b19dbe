#!/usr/bin/env bash
# Run ddb_jax in a virtual environment of its own (.venv in the project's folder), made where there
# is none:
#
#     launch/run.sh [OPTIONS] --config=configs/digits.py ...
#
# --extra=NAMES  what setup.py calls extras, with commas between: cuda or tpu for the accelerator that
#                the environment is for (without it the CPU), gcs or s3 for work directories there
# --install      make the environment, and run nothing
# --dry_run      print the commands, and run none
#
# The options come first; everything from the first other argument on goes to
# `python -m ddb_jax.main`, which has a --dry_run of its own. It runs in the project's folder, from
# wherever the script is called: relative paths start there.
set -euo pipefail

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

extra="" install="" dry_run=""
while (($#)); do
    case $1 in
    --extra=*) extra=${1#*=} ;;
    --install) install=yes ;;
    --dry_run) dry_run=yes ;;
    *) break ;;
    esac
    shift
done
[[ -z $extra || ,$extra =~ ^(,(cuda|tpu|gcs|s3))+$ ]] ||
    fail "--extra=$extra has to be of cuda, tpu, gcs and s3, with commas between."

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
call cd "$root"

# What the environment was made from; pip runs again when setup.py or the accelerator changes.
made_from="$extra $(cksum <"$root/setup.py")"
note=$root/.venv/ddb_jax_made_from
if [[ ! -f $note || $(<"$note") != "$made_from" ]]; then
    if [[ ! -x $root/.venv/bin/pip ]]; then
        # Asked, not only looked for: pyenv leaves names that do not run, Ubuntu 22.04 has 3.11.0.
        python=""
        for candidate in python3.12 python3.11; do
            if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' &>/dev/null; then
                python=$candidate
                break
            fi
        done
        if [[ -n $python ]]; then
            call "$python" -m venv .venv
        elif uv=$(command -v uv); then
            call "$uv" venv --seed --python=3.12 .venv
        else
            fail "there is neither Python 3.12 nor 3.11.4 on PATH, nor uv to fetch one."
        fi
    fi
    call .venv/bin/python -m pip install --editable ".${extra:+[$extra]}"
    [[ -n $dry_run ]] || echo "$made_from" >"$note"
fi

[[ -n $install ]] || call exec .venv/bin/python -m ddb_jax.main "$@"
