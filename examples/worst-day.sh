#!/usr/bin/env bash
# The worst day, rehearsed: one poison order among 10,000, and the database away for a minute in the middle of it.
# Then: fixed, rehearsed, replayed, and nothing is left.
#
#   examples/worst-day.sh [--kafka] [--orders N] [--away SECONDS]
#
# It runs on a home and on ports of its own, and deletes the home at the end. Needs `./run_all.sh` to have run once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

orders=10000 away=60 options=()
while (($#)); do
    case $1 in
        --kafka) options+=(--kafka); shift ;;
        --orders) orders=$2; shift 2 ;;
        --away) away=$2; shift 2 ;;
        *) echo "Usage: examples/worst-day.sh [--kafka] [--orders N] [--away SECONDS]" >&2; exit 2 ;;
    esac
done

python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
export ORDERFLOW_HOME=$folder/home
orderflow() { "$python" -m orderflow "$@"; }
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf '\nWorst day: %s\n' "$*" >&2; exit 1; }
# What the Python expression makes of the JSON document `it` on standard input.
pick() { "$python" -c "import json, sys; it = json.load(sys.stdin); print($1)"; }

finish() {
    kill "${demo:-}" 2>/dev/null || true
    orderflow down >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT

# The supervisor stands still meanwhile: it would start the database again at once.
database_away() {
    local server supervisor
    server=$(orderflow status --json | pick 'next(p["pid"] for p in it["processes"] if p["name"] == "postgres")')
    supervisor=$("$python" -c "import psutil; print(psutil.Process($server).ppid())")
    kill -STOP "$supervisor"
    kill -INT "$server"
    sleep "$1"
    kill -CONT "$supervisor"
}

say "Everything starts, ready for faults to be put in"
orderflow up --detach --game-day --order-port 0 --payment-port 0 --inventory-port 0 --notification-port 0 "${options[@]}"

say "A bug that nobody has seen yet: inventory cannot handle orders of 6.66 EUR"
orderflow fault add inventory --event PaymentSucceeded --match total=666 --error permanent

say "$orders orders, and one of 6.66 EUR"
orderflow demo --orders "$orders" --timeout 300 --json >"$folder/demo.json" &
demo=$!
poison=$(orderflow order place --item SKU-ESPRESSO-CUP:1:666 --json | pick 'it["id"]')

say "The database is away for $away s"
database_away "$away"

say "It is back. The other orders come to their end"
wait "$demo" || fail "not all orders came to their end: $(cat "$folder/demo.json")"
pick 'it["outcomes"]' <"$folder/demo.json"

say "One order is stuck, and says where and why"
until orderflow dlt list --json | pick 'it["dead_letters"]' | grep -q "$poison"; do sleep 0.5; done
orderflow dlt list
letter=$(orderflow dlt list --json | pick 'it["dead_letters"][0]["event_id"]')
orderflow order show "$poison"
orderflow dlt show "$letter"
[[ $(orderflow dlt list --json | pick 'len(it["dead_letters"])') == 1 ]] || fail "there is more than one dead letter"
[[ $(orderflow dlt list --json | pick 'it["dead_letters"][0]["attempts"]') == 6 ]] || fail "the outage burnt attempts"
[[ $(orderflow dlt list --state parked --json | pick 'len(it["dead_letters"])') == 0 ]] || fail "others are parked"
others=$(grep -h '"message-parked"' "$ORDERFLOW_HOME"/logs/* | grep -vc "$poison") || true
[[ $others == 0 ]] || fail "others were parked: the outage burnt $others attempts"

say "The bug is fixed"
orderflow fault clear --all

say "What would a replay do? Nothing is changed by asking"
orderflow dlt rehearse --all

say "Replay, carefully"
orderflow dlt replay --all --reason "the bug is fixed"
orderflow order watch "$poison"
[[ $(orderflow order show "$poison" --json | pick 'it["status"]') == COMPLETED ]] || fail "the order is not completed"

say "Nothing is left, and the books balance"
orderflow dlt list
[[ $(orderflow dlt list --json | pick 'len(it["dead_letters"])') == 0 ]] || fail "dead letters are left"
orderflow audit
