#!/usr/bin/env bash
# stage.sh NAME COMMAND...: runs one stage of the Makefile and prints how long it took.
set -uo pipefail
name=$1
shift
started=$SECONDS
printf '== %s\n' "$name"
"$@"
status=$?
if [ "$status" -eq 0 ]; then
    printf '== %s: ok, %d s\n' "$name" "$((SECONDS - started))"
else
    printf '== %s: FAILED (exit %d), %d s\n' "$name" "$status" "$((SECONDS - started))"
fi
exit "$status"
