# Sourced by tools/quickstart, tools/test and .ci/run: how a preset is configured and built, and how
# long each stage took.
# shellcheck shell=bash

# Prints the LibTorch the user chose, or nothing where the one in .deps/venv is used.
chosen_torch_root() {
  if [[ -n ${KVLAB_TORCH_ROOT:-} ]]; then
    (cd "$KVLAB_TORCH_ROOT" && pwd)
  elif [[ -f .deps/torch_root ]]; then
    cat .deps/torch_root
  fi
}

# Prints how many compilers to run: KVLAB_JOBS, else one for each processor with 2 GB to spare.
build_jobs() {
  if [[ -n ${KVLAB_JOBS:-} ]]; then
    printf '%s\n' "$KVLAB_JOBS"
    return
  fi
  local jobs by_memory
  jobs="$(nproc)"
  by_memory="$(awk '/^MemAvailable/ {print int($2 / 2000000)}' /proc/meminfo)"
  if [[ $by_memory -lt $jobs ]]; then jobs="$by_memory"; fi
  if [[ $jobs -lt 1 ]]; then jobs=1; fi
  printf '%s\n' "$jobs"
}

# configure_preset PRESET [-DKEY=VALUE ...]. What an earlier call found of LibTorch is looked for
# again, so that a changed choice takes effect.
configure_preset() {
  local preset="$1"
  shift
  cmake --preset "$preset" --log-level=NOTICE -U 'LibTorch_*' \
    -DKVLAB_TORCH_ROOT="$(chosen_torch_root)" "$@"
}

# build_preset PRESET [TARGET ...]
build_preset() {
  local preset="$1" targets=()
  shift
  if [[ $# -gt 0 ]]; then targets=(--target "$@"); fi
  cmake --build "build/$preset" -j "$(build_jobs)" "${targets[@]}"
}

# run_stage NAME COMMAND...: prints the name before and the minutes after; the command's exit code.
run_stage() {
  local name="$1" started="$SECONDS" status=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || status=$?
  print_minutes "$name" "$((SECONDS - started))" "$status"
  return "$status"
}

print_minutes() {
  local outcome="done"
  if [[ $3 -ne 0 ]]; then outcome="FAILED (exit code $3)"; fi
  awk -v name="$1" -v seconds="$2" -v outcome="$outcome" \
    'BEGIN {printf "== %s: %s, %.1f minutes\n", name, outcome, seconds / 60}'
}
