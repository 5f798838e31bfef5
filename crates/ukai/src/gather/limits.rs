//! How many connections probes and proofs may have open at once. When much fails together each of them waits for its
//! timeout, and whoever waits for a place sees nothing meanwhile: there are places for a hundred peers that are dead.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const AT_MOST: u64 = 1024;
const AT_LEAST: u64 = 32;
/// Of the files that a process may open; the others are for everything else.
const SHARE: u64 = 2;
/// More than this is never needed.
const FILES_WANTED: u64 = 8 * 1024;

/// By default a process may open 1,024 files, though it may raise that by itself (`getrlimit(2)`).
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES_WANTED, |most| most.min(FILES_WANTED));
    if limit.current.is_some_and(|now| now < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
    {
        tracing::warn!(%error, "the number of files that may be open stays as it is");
    }
}

/// As many as the files allow.
pub fn at_once() -> usize {
    places(getrlimit(Resource::Nofile).current.unwrap_or(FILES_WANTED))
}

fn places(files: u64) -> usize {
    usize::try_from((files / SHARE).clamp(AT_LEAST, AT_MOST)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_left_for_everything_else() {
        assert_eq!([16, 256, 1024, FILES_WANTED].map(places), [32, 128, 512, 1024]);
    }

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        raise_file_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        let wanted = before.maximum.unwrap_or(FILES_WANTED).min(FILES_WANTED);
        assert!(after.current.is_none_or(|now| now >= wanted));
    }
}
