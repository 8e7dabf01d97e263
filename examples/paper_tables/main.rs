//! The FLOPs in Tables 4 to 7 of the paper (arXiv 2408.12561), as computed from the types of the
//! networks beside what is printed there. Fails if a printed digit differs.
//!
//!     cargo run --example paper_tables
//!     cargo run --example paper_tables -- --json

mod compute;
mod figure;
mod output;

use std::process::ExitCode;

use clap::Parser;
use common::{paper, say};

/// Compare the paper's FLOPs with those that this crate computes
#[derive(Debug, Parser)]
struct Args {
    /// Print data instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match compute::rows(paper::TABLES) {
        Ok(rows) => {
            match args.json {
                true => say!("{:#}", output::json(&rows)),
                false => print!("{}", output::text(&rows)),
            }
            match output::Count::of(&rows).differing {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(err) => {
            eprintln!("error: {err}");
            ExitCode::FAILURE
        }
    }
}
