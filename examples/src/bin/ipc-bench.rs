//! The process-level benchmark: one measurement per run, one JSON line per measurement.

fn main() -> std::process::ExitCode {
    ipc_examples::bench::main()
}
