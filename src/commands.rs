//! The commands: their arguments and exit codes.

mod arguments;
mod audit;
mod backup;
mod demo;
mod erase;
mod export;
mod failure;
mod generate;
mod import;
mod key_ring;
mod keys;
mod list;
mod log;
mod node_client;
mod output;
mod remote;
mod reseal;
mod restore;
mod serve;
mod settings;
mod size;
mod sources;
mod stores;
mod synth;
mod system_limits;
mod terminal;
mod token;
mod token_register;
mod trust;

use crate::kernel;
use crate::version::BUILD;
use clap::{CommandFactory, Parser, Subcommand};
use failure::{BAD_SETTINGS, Failure, causes};
use log::LOG;
use std::io;
use std::process::ExitCode;
use terminal::note;

/// 亮码: the status lookup behind a health code. Residents show their code, gates scan it, from memory.
#[derive(Parser)]
#[command(name = "liangma", version = BUILD, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
First steps:
  liangma demo                                  a town of 100,000 on this machine, with lines to paste
  liangma import residents.ndjson               residents and statuses into ./liangma-data
  liangma serve                                 opens the doors over ./liangma-data
  liangma token scanner --site east-gate        a token for a gate
  liangma token authority --source gd-cdc       a token for who feeds statuses

Exit codes: 0 done, 1 failed, 2 bad usage, 3 done and some lines were rejected or something was left, 78 bad settings.";

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Settings(settings::SettingsCommand),
    Size(size::Size),
    #[command(hide = true)]
    Generate(generate::Generate),
    Demo(demo::Demo),
    Import(import::Import),
    Export(export::Export),
    Synth(synth::Synth),
    Token(token::Token),
    Keys(keys::Keys),
    List(list::List),
    Audit(audit::AuditCommand),
    Erase(erase::Erase),
    Trust(trust::Trust),
    Backup(backup::Backup),
    Restore(restore::Restore),
}

/// Runs the command of the command line.
pub fn run() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            let code = ExitCode::from(error.exit_code() as u8);
            return match error.print() {
                Ok(()) => code,
                // Help or an error that cannot be printed is still an error.
                Err(_) if error.use_stderr() => code,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                Err(error) => {
                    note(&output::named(error).to_string());
                    ExitCode::FAILURE
                }
            };
        }
    };
    if !kernel::forbid_core_dumps() {
        note("core dumps cannot be forbidden: a crash may write keys to the disk");
    }
    let outcome = match command {
        Command::Serve(serve) => serve.run(),
        Command::Settings(settings) => settings.run(),
        Command::Size(size) => size.run(),
        Command::Generate(generate) => generate.run(Cli::command()),
        Command::Demo(demo) => demo.run(),
        Command::Import(import) => import.run(),
        Command::Export(export) => export.run(),
        Command::Synth(synth) => synth.run(),
        Command::Token(token) => token.run(),
        Command::Keys(keys) => keys.run(),
        Command::List(list) => list.run(),
        Command::Audit(audit) => audit.run(),
        Command::Erase(erase) => erase.run(),
        Command::Trust(trust) => trust.run(),
        Command::Backup(backup) => backup.run(),
        Command::Restore(restore) => restore.run(),
    };
    let code = match outcome {
        Ok(code) => code,
        Err(Failure::Settings(bad)) => {
            for line in bad {
                note(&line);
            }
            ExitCode::from(BAD_SETTINGS)
        }
        // The reader of the output has left, as `head` does.
        Err(Failure::Other(error)) if output::reader_has_left(&error) => ExitCode::SUCCESS,
        Err(Failure::Other(error)) => {
            note(&causes(&error));
            ExitCode::FAILURE
        }
    };
    if let Some(lines) = LOG.get() {
        lines.flush();
    }
    code
}
