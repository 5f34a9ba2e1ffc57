//! The main job: a fleet of real processes that streams real files through ports and loses nothing.

fn main() -> std::process::ExitCode {
    ipc_examples::demo::main()
}
