//! The process: an allocator, and the command that was asked for.

/// Every answer is a small body that is made and dropped, often on another thread than the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    liangma::commands::run()
}
