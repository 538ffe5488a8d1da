//! The process: the allocator, and the command.

/// Answers are small bodies, created and dropped often, on different threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    liangma::commands::run()
}
