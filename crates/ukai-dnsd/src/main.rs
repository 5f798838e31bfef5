//! `ukai-dns`: what `ukai dns` is, in a small program of its own for machines that need nothing else.

fn main() -> std::process::ExitCode {
    ukai_dnsd::main(std::env::args_os().collect())
}
