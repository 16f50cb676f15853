#!/bin/sh
# Makes .venv from requirements.lock: wheels only, every hash checked, nothing resolved.
# Imports come from a .pth file: the project's root, and gen/ for the generated contracts. `omctl`
# is a script of two lines.
set -eu
cd "$(dirname "$0")/.."

fail() { printf '%s\n' "$*" >&2; exit 1; }

python=${PYTHON:-python3}
command -v "$python" >/dev/null \
    || fail "Python is missing: install it (Debian: apt-get install python3 python3-venv)," \
        "or name one: make PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || fail "Python 3.11 or newer is needed, and $python is $("$python" --version):" \
        "name another: make PYTHON=python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "Python's venv module is missing: install python3-venv" \
        "(Debian: apt-get install python3-venv)"

echo "Preparing .venv from requirements.lock (once; about 110 MB of wheels on a first run)"
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: -r requirements.lock \
    || fail "The dependencies could not be installed: see pip's message above." \
        "If the network was at fault, run the same command again."
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n%s\n' "$PWD" "$PWD/gen" > "$site/ordermesh.pth"
printf "#!/bin/sh\nexec '%s/.venv/bin/python' -m omctl \"\$@\"\n" "$PWD" > .venv/bin/omctl
chmod +x .venv/bin/omctl
touch .venv/ready
