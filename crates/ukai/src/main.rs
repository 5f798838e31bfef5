//! One binary: the command line, the daemon, the DNS process and the drills.

mod application;
mod child;
mod cli;
mod clock;
mod config;
mod data_dir;
mod dns_process;
mod driver;
mod evidence;
mod gather;
mod log;
mod metrics;
mod notify;
mod provider;
mod report;
mod secret;
mod socket;
mod vantage;

fn main() -> std::process::ExitCode {
    cli::main()
}
