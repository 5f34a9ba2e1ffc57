# Real peers for the tests of ipc-channel: `node_peers`, to be called after .ci/common.sh was sourced.
# shellcheck shell=bash disable=SC2154

# Installs node-ipc 9.2.1 beside copies of our two programs and says in IPC_NODE_IPC where they are. Without Node, npm or
# a registry it says SKIPPED, leaves IPC_NODE_IPC unset and succeeds. What was downloaded and is not what the lock file
# says is no reason to skip: it fails.
node_peers() {
    local place="$scratch/node-ipc" log="$scratch/node-ipc.log" reason version
    unset IPC_NODE_IPC
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        # A mirror that does not answer must not hold up everything else.
        timeout -k 10 300 bash -c "$(declare -f install_packages); install_packages nodejs npm" \
            </dev/null >"$log" 2>&1 || true
    fi
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        printf 'SKIPPED: real node-ipc peers, as node and npm are missing and cannot be installed here\n'
        return 0
    fi
    mkdir "$place"
    cp .ci/node-ipc/{package.json,package-lock.json,peer.js,server.js,client.js} "$place"
    if ! (cd "$place" && timeout -k 10 120 npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --prefer-offline \
        --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=2000 --fetch-timeout=20000) \
        </dev/null >"$log" 2>&1; then
        if grep -E 'EINTEGRITY|EUSAGE' "$log"; then
            fail "npm does not accept what the lock file of .ci/node-ipc says"
        fi
        # There is no code where the clock stopped it.
        reason=$(awk '/^npm .* code / && !found { found = $NF } END { print found ? found : "no answer" }' "$log")
        printf 'SKIPPED: real node-ipc peers, as npm cannot install them here: %s\n' "$reason"
        return 0
    fi
    version=$(cd "$place" && node --print 'require("node-ipc/package.json").version')
    [[ $version == 9.2.1 ]] || fail "node-ipc $version was installed instead of 9.2.1"
    printf 'node %s, node-ipc %s\n' "$(node --version)" "$version"
    export IPC_NODE_IPC="$place"
}
