#!/bin/sh
# Style, format, types, imports and house rules, in an environment made where needed. Needs Python 3.11 or later.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$project"
for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" bootstrap.py --dev -m scripts.check "$@"
    fi
done
echo "Python 3.11 or later is needed, and none was found; PYTHON names one" >&2
exit 1
