mod application;
mod clock;
mod config;
mod data_dir;
mod log;
mod notify;
mod secret;
mod socket;

fn main() {}
