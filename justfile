# The everyday commands; CI runs the same ones.

# Formatting, lints and every test.
test:
    ./test

# The outage that ukai was made for, on real sockets.
drill *ARGS:
    cargo run --release -- drill {{ARGS}}

# Quick check while writing.
check:
    cargo clippy --workspace --all-targets -- -D warnings

fmt:
    cargo fmt --all
