#!/usr/bin/env bash
# Run ddb_jax in a virtual environment of its own (.venv in the project's folder), made if need be:
#
#     launch/run.sh [OPTIONS] --config=configs/digits.py ...
#
# --extra=NAMES   extras of setup.py, with commas between: cuda or tpu (without it the CPU), gcs, s3
# --install       make the environment, and run nothing
# --dry_run       print the commands, and run none
#
# Everything from the first other argument on goes to `python -m ddb_jax.main`, which has a --dry_run
# of its own and runs in the project's folder: relative paths start there.
set -euo pipefail
fail() { echo "error: $*" >&2 && exit 1; }
call() { if [[ -n $dry_run ]]; then echo "${@@Q}"; else "$@"; fi; }

extra="" install="" dry_run=""
while [[ ${1-} =~ ^--(extra=|install$|dry_run$) ]]; do
    option=${1%%=*} && printf -v "${option#--}" %s "${1#*=}" && shift
done
[[ -z $extra || ,$extra =~ ^(,(cuda|tpu|gcs|s3))+$ ]] ||
    fail "--extra=$extra has to be of cuda, tpu, gcs and s3, with commas between."
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
call cd "$root"
# What the environment was made from; pip runs again when setup.py or the accelerator changes.
made_from="$extra $(cksum <"$root/setup.py")"
note=$root/.venv/ddb_jax_made_from
if [[ ! -f $note || $(<"$note") != "$made_from" ]]; then
    python=""
    # Asked, not only looked for: pyenv leaves names that do not run, Ubuntu 22.04 has 3.11.0.
    for candidate in python3.11 python3.12; do
        ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' &>/dev/null ||
            python=$candidate
    done
    if [[ -x $root/.venv/bin/pip ]]; then
        : # pip brings it up to date
    elif [[ -n $python ]]; then
        call "$python" -m venv .venv
    elif uv=$(command -v uv); then
        call "$uv" venv --seed --python=3.12 .venv
    else
        fail "there is neither Python 3.12 nor 3.11.4 on PATH, nor uv to fetch one."
    fi
    call .venv/bin/python -m pip install --editable ".${extra:+[$extra]}"
    [[ -n $dry_run ]] || echo "$made_from" >"$note"
fi
[[ -n $install ]] || call exec .venv/bin/python -m ddb_jax.main "$@"
