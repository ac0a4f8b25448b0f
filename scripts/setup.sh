#!/usr/bin/env bash
# Installs what the tests need and the machine lacks: a C compiler, Chromium and its driver, Python
# with venv, curl, tmux, the programs of a PostgreSQL server and of a Redis (the tests start ones of
# their own). Does nothing where everything is there.
set -euo pipefail

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v curl >/dev/null || missing+=(curl)
command -v tmux >/dev/null || missing+=(tmux)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
    missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
# A page without any font has no text to look at.
fc-list 2>/dev/null | grep -q . || missing+=(fonts-dejavu-core)
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "the tests need: ${missing[*]} (Debian's names); please install them and try again" >&2
    exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
    root=(sudo)
fi
echo "installing ${missing[*]}"
case " ${missing[*]} " in
*" postgresql "*)
    # The package would make a database and start a server for it; the tests need neither.
    "${root[@]}" mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' |
        "${root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    ;;
esac
policy=/usr/sbin/policy-rc.d
case " ${missing[*]} " in
*" redis-server "*)
    # This one would start a server as well; where somebody has a say in that already, it is theirs.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
        "${root[@]}" chmod +x $policy
        trap '"${root[@]}" rm -f $policy' EXIT
    fi
    ;;
esac
"${root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
