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

# Exported alarms against cfn-lint, the AWS CLI and two emulators (about 600 MB under target/, from PyPI); `./test` does it with one.
check-export:
    python3 crates/ukai/tests/aws/check_export.py
