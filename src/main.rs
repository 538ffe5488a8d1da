//! The process: an allocator, and the command that was asked for.

/// Many small bodies are made and dropped; this allocator does it for less than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    liangma::commands::run()
}
