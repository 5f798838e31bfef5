//! Secrets: read from the environment or a file, kept in one type that never prints itself.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A secret file larger than this is not a secret but a mistake.
const SECRET_BYTES: u64 = 64 * 1024;
const REDACTED: &str = "<redacted>";

/// A value that reaches a peer or a hash, and nothing else: no log, no error, no JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself. Each call is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on neither value: both are hashed first.
    pub fn matches(&self, offered: &[u8]) -> bool {
        let ours = Sha256::digest(self.0.as_bytes());
        let theirs = Sha256::digest(offered);
        let difference = ours.iter().zip(theirs.iter()).fold(0u8, |sum, (a, b)| sum | (a ^ b));
        black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the environment variable {name} is not set; set it for the daemon, or name a file instead")]
    NotSet { name: String },
    #[error("the environment variable {name} is not UTF-8 text")]
    NotText { name: String },
    #[error("the secret in {place} is empty")]
    Empty { place: String },
    #[error("cannot read the secret file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the secret file {} is larger than {SECRET_BYTES} bytes", path.display())]
    TooLarge { path: PathBuf },
}

pub fn from_environment(name: &str) -> Result<Secret, SecretError> {
    let value = match std::env::var(name) {
        Ok(value) => value,
        Err(std::env::VarError::NotPresent) => {
            return Err(SecretError::NotSet { name: name.into() });
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(SecretError::NotText { name: name.into() });
        }
    };
    not_empty(value, || format!("the environment variable {name}"))
}

/// One trailing line end is no part of the secret: editors and `echo` add it.
pub fn from_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(SECRET_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > SECRET_BYTES {
        return Err(SecretError::TooLarge { path: path.into() });
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    not_empty(text.to_owned(), || format!("the file {}", path.display()))
}

fn not_empty(value: String, place: impl Fn() -> String) -> Result<Secret, SecretError> {
    if value.trim().is_empty() { Err(SecretError::Empty { place: place() }) } else { Ok(Secret(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        let printed = format!("{secret} {secret:?} {:?} {}", Some(&secret), serde_json::to_string(&secret).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(printed.matches(REDACTED).count(), 4);
    }

    #[test]
    fn only_the_whole_value_matches() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches(b"hunter2"));
        for wrong in ["", "hunter", "hunter22", "Hunter2"] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_file_loses_its_last_line_end_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, " a b \r\n").unwrap();
        assert_eq!(from_file(&path).unwrap().expose(), " a b ");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(from_file(&path), Err(SecretError::Empty { .. })));
        std::fs::write(&path, vec![b'x'; SECRET_BYTES as usize + 1]).unwrap();
        assert!(matches!(from_file(&path), Err(SecretError::TooLarge { .. })));
        let missing = from_file(&dir.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }

    #[test]
    fn an_unset_variable_is_named() {
        let error = from_environment("UKAI_TEST_NEVER_SET").unwrap_err();
        assert!(error.to_string().contains("UKAI_TEST_NEVER_SET"), "{error}");
        assert!(!from_environment("PATH").unwrap().expose().is_empty());
    }
}
