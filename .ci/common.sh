# Shared by .ci/run and .ci/full: steps with headings and times, test totals, and what a fresh machine lacks.
# shellcheck shell=bash

export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
export PATH="$HOME/.cargo/bin:$PATH"

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
unset CARGO_TARGET_DIR
export CARGO_TARGET_DIR="$target"

scratch=$(mktemp -d)
current="nothing"
began=$SECONDS
step_began=$SECONDS
passed=0
failed=0

trap finish EXIT

# Opens a step; the one before it ends here.
step() {
    end_step
    current=$1
    step_began=$SECONDS
    printf '\n=== %s\n' "$current"
}

end_step() {
    if [[ $current != nothing ]]; then
        printf -- '--- %s: %d s\n' "$current" $((SECONDS - step_began))
    fi
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command that prints results of the test harness, shows them and adds them up.
tests() {
    local log="$scratch/tests.log" status=0 sums
    "$@" 2>&1 | tee "$log" || status=$?
    sums=$(awk '/^test result: / { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")
    passed=$((passed + ${sums% *}))
    failed=$((failed + ${sums#* }))
    printf 'this command: %d passed, %d failed\n' "${sums% *}" "${sums#* }"
    return "$status"
}

# The value of a field in one line of flat JSON.
field() {
    sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" <<<"$2"
}

# Runs the main job with these arguments, shows its last line and checks what must hold for every run.
main_job() {
    local log="$scratch/job.log" line key
    if ! "$target/release/ipc-demo" --json "$@" >"$log"; then
        cat "$log"
        fail "the main job failed: ipc-demo --json $*"
    fi
    line=$(tail -n 1 "$log")
    printf '%s\n' "$line"
    for key in lost duplicated reordered; do
        [[ $(field "$key" "$line") == 0 ]] || fail "the main job reports $key values"
    done
    [[ $(field sha256_ok "$line") == true ]] || fail "the main job reports a wrong digest"
    [[ $(field sent "$line") == "$(field taken "$line")" ]] || fail "sent and taken differ"
    (($(field sent "$line") > 0)) || fail "the main job sent nothing"
    job_line=$line
}

# Installs what is missing of: a linker, cargo, rustfmt, clippy.
prepare() {
    if ! command -v cc >/dev/null; then
        install_packages gcc libc6-dev
    fi
    if ! command -v git >/dev/null; then
        install_packages git
    fi
    if ! command -v cargo >/dev/null; then
        if ! command -v rustup >/dev/null; then
            install_packages rustup || fail "cargo is missing, and so is rustup: see https://rustup.rs"
        fi
        rustup toolchain install stable --profile minimal
    fi
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    rustc --version
    cargo --version
}

# Other machines and other users, for the tests that want them. What this machine cannot have is said, here and by them.
prepare_machines() {
    local search=$PATH:/usr/sbin:/sbin
    if ! PATH=$search command -v ip >/dev/null || ! PATH=$search command -v nft >/dev/null; then
        install_packages iproute2 nftables || printf 'NOT SHOWN: iproute2 and nftables cannot be installed here\n' >&2
    fi
    if PATH=$search command -v ip >/dev/null && PATH=$search command -v nft >/dev/null &&
        { unshare --net nft list ruleset || unshare --user --map-root-user --net nft list ruleset; } >/dev/null; then
        export IPC_REQUIRE_NETWORKS=1
    else
        printf 'NOT SHOWN: ports between machines, as this one cannot make network namespaces\n' >&2
    fi
    if ((EUID == 0)) && setpriv --reuid=65534 --regid=65534 --clear-groups true; then
        export IPC_REQUIRE_USERS=1
    else
        printf 'NOT SHOWN: other users, unless unshare can make some\n' >&2
    fi
}

# Checks a crate with every set of the given features: `try_features CRATE clippy|check FEATURE...`.
try_features() {
    local crate=$1 command=$2 set index chosen
    shift 2
    local features=("$@") strict=()
    [[ $command == clippy ]] && strict=(-- -D warnings)
    for ((set = 0; set < 1 << ${#features[@]}; set++)); do
        chosen=""
        for index in "${!features[@]}"; do
            if ((set >> index & 1)); then
                chosen+="${chosen:+,}${features[index]}"
            fi
        done
        printf '%s: %s\n' "$crate" "${chosen:-none}"
        cargo "$command" --quiet --locked -p "$crate" --no-default-features --features "$chosen" "${strict[@]}"
    done
}

install_packages() {
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@"
}

# Every model passes; with a weakened ordering the named one fails, by loom's verdict and by nothing else.
loom_models() {
    local log="$scratch/loom.log"
    # Their own directory, and without link-time optimisation: they are small, and they are built twice.
    local build=(cargo test --locked --release -p ipc-testkit --test loom --target-dir "$target/loom"
        --config 'profile.release.lto=false' --config 'profile.release.codegen-units=16')
    step "loom: every interleaving of the ring, the permits and the waking"
    RUSTFLAGS='--cfg ipc_loom' tests "${build[@]}"
    grep -q '^test a_value_is_seen_whole ... ok' "$scratch/tests.log" || fail "the model of the ring was not run"

    step "loom: the weakened ordering is noticed"
    local weak='--cfg ipc_loom --cfg ipc_loom_weak'
    # What does not compile proves nothing: it has to build first.
    RUSTFLAGS=$weak "${build[@]}" --no-run
    if RUSTFLAGS=$weak "${build[@]}" -- --exact a_value_is_seen_whole >"$log" 2>&1; then
        cat "$log"
        fail "the model passes although its ordering is weakened"
    fi
    grep -q '^test a_value_is_seen_whole ... FAILED' "$log" || { cat "$log"; fail "it is not the model that failed"; }
    grep -q 'Causality violation' "$log" || { cat "$log"; fail "the model failed, but not by a verdict of loom"; }
    grep 'Causality violation' "$log"
}

# Packages as users have them, outside of the workspace. Where a lock file is behind after a change of dependencies,
# `cargo update --workspace` in that directory brings it up to date.
outside() {
    local package manifest
    # The profile is ours, and with it what is built for both.
    local settings=(--locked --config 'profile.dev.opt-level=1' --config 'profile.dev.debug="line-tables-only"')
    for package in echo transport queue; do
        manifest=".ci/outside/$package/Cargo.toml"
        printf '%s\n' "$manifest"
        # Alone first: what the tests need asks for features that the package has not.
        cargo check --manifest-path "$manifest" "${settings[@]}"
        tests cargo test --manifest-path "$manifest" "${settings[@]}"
    done
    if grep -rnwE 'tokio|proptest' .ci/outside/transport/{Cargo.toml,src,tests}; then
        fail "who writes a transport need not name a runtime or a test framework"
    fi
}

# How many crates ipc-transport pulls in with these features: each version once, build scripts' and tests' own left out,
# itself not counted.
count_crates() {
    local features=$1 most=$2 count
    count=$(cargo tree --locked -p ipc-transport --no-default-features --features "$features" -e normal --prefix none |
        sed 's/ (.*//' | sort -u | grep -vc '^ipc-transport ')
    printf 'ipc-transport with %s: %d crates, at most %d\n' "$features" "$count" "$most"
    ((count <= most)) || fail "ipc-transport with $features pulls in $count crates"
}

finish() {
    local status=$?
    trap - EXIT
    end_step
    rm -rf "$scratch"
    printf '\n=== summary\n'
    if ((status != 0)); then
        printf 'FAILED in step: %s\n' "$current"
    fi
    printf 'took %d min %d s\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60))
    printf '%d passed, %d failed\n' "$passed" "$failed"
    exit "$status"
}
