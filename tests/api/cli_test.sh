#!/bin/bash
# The docker CLI against api_host: usage: cli_test.sh API_HOST
# Exit codes and output as the CLI shows them; the engine is restarted in between.
set -u
host=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/vic-cli-XXXXXX")
export DOCKER_HOST=unix://$dir/api.sock DOCKER_CONFIG=$dir/config
failures=0
pid=

begin() {
    coproc HOST { exec "$host" "$dir" --seed --play 0; }
    pid=$HOST_PID
    read -r -t 30 word <&"${HOST[0]}" && [ "$word" = ready ] || { echo "api_host did not start"; exit 1; }
}
end() {
    kill -TERM "$pid" && wait "$pid" || { echo "api_host ended badly: $?"; failures=$((failures + 1)); }
}
cleanup() {
    kill "$pid" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT

# expect EXIT-CODE PATTERN docker-arguments...: the whole output matches the pattern (bash's =~).
expect() {
    local want=$1 pattern=$2 out code
    shift 2
    out=$(timeout 30 docker "$@" 2>&1)
    code=$?
    if [ $code -ne "$want" ] || ! [[ $out =~ $pattern ]]; then
        echo "docker $*: exit $code (want $want): $out"
        echo "    want: $pattern"
        failures=$((failures + 1))
    fi
}

begin
expect 0 'API version: +1.44' version
expect 0 'Storage Driver: vsphere' info
expect 0 '^[0-9a-f]{64}$' create --name web -l app=a -e A=1 busybox echo 'a b'
expect 1 'Conflict. The container name "/web" is already in use' create --name web busybox
expect 0 "busybox +\"echo 'a b'\" +Less than a second ago +Created +web|Created +web" ps -a
expect 0 '^/web created \[A=1 PATH=/bin:/usr/bin\] \[echo a b\] a$' inspect -f \
    '{{.Name}} {{.State.Status}} {{.Config.Env}} {{.Config.Cmd}} {{.Config.Labels.app}}' web
expect 1 'No such object: nope' inspect nope
expect 0 '^web$' start web
expect 0 'Up ' ps
expect 1 'cannot remove container "/web": container is running: stop the container before' rm web
expect 0 '^web$' stop -t 1 web
expect 0 'Exited \(137\)' ps -a --filter name=web
expect 0 '^$' rename web new
expect 0 '^new$' start new
timeout 30 docker wait new >"$dir/waited" &
waiter=$!
expect 0 '^new$' kill new
wait $waiter
[ "$(cat "$dir/waited")" = 137 ] || { echo "docker wait: $(cat "$dir/waited")"; failures=$((failures + 1)); }
expect 0 '^new$' restart new
expect 0 '"Action":"create"|create' events --since 1h --until 0s --filter event=create
end
begin
expect 0 'new' ps -a --format '{{.Names}}'
expect 0 '^new$' rm -f new
expect 1 'No such container: new' rm new
expect 0 '^[0-9a-f]{64}$' run -d --rm --name once busybox
expect 0 'once' ps --format '{{.Names}}'
expect 0 '^once$' stop once
expect 0 '^$' ps -aq
expect 0 '^[0-9a-f]{64}$' create busybox
expect 0 'Deleted Containers:' container prune -f
expect 0 'Total reclaimed space: 0B' container prune -f
expect 125 'host network mode is not supported' run --network host busybox
expect 1 'This node is not a swarm manager' node ls
expect 0 '^$' volume ls -q
end

[ $failures -eq 0 ] && echo "all as expected"
exit $((failures > 0))
