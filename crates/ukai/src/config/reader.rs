//! What every section is read with: values of each kind, and a place for what is wrong with them.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::problem::{At, Problems, suggestion};
use super::{Problem, defaults, duration, v1};
use crate::secret::{self, Secret};

/// What every section needs to be read: where relative paths count from, and a place for problems.
pub struct Reader<'a> {
    base: PathBuf,
    pub problems: Problems<'a>,
    warnings: Vec<(usize, Problem)>,
}

impl<'a> Reader<'a> {
    pub fn new(base: &Path, problems: Problems<'a>) -> Reader<'a> {
        Reader { base: base.to_owned(), problems, warnings: Vec::new() }
    }

    pub fn problem(&mut self, at: &At, message: impl Into<String>) {
        self.problems.push(at, message);
    }

    /// The same bookkeeping as for problems, kept apart.
    pub fn warn(&mut self, at: &At, message: impl Into<String>) {
        let problems = self.problems.take();
        self.problems.push(at, message);
        let warning = std::mem::take(&mut self.warnings);
        self.warnings = warning.into_iter().chain(self.problems.take()).collect();
        self.problems.extend(problems);
    }

    /// A warning without a place in the file.
    pub fn note(&mut self, message: &str) {
        self.warnings.push((0, Problem { place: None, message: message.to_owned() }));
    }

    pub fn take_warnings(&mut self) -> Vec<(usize, Problem)> {
        std::mem::take(&mut self.warnings)
    }

    pub fn path(&self, written: &str) -> PathBuf {
        self.base.join(written)
    }

    pub fn one<T: FromStr<Err: Display>>(&mut self, at: &At, text: &str) -> Option<T> {
        let parsed = text.parse().map_err(|error| format!("{text:?}: {error}"));
        self.problems.check(at, parsed)
    }

    pub fn list<T: FromStr<Err: Display>>(&mut self, at: &At, texts: Option<&[String]>) -> Vec<T> {
        let texts = texts.unwrap_or_default();
        self.at_most(at, texts.len(), defaults::LIST, "entries");
        texts.iter().enumerate().filter_map(|(index, text)| self.one(&at.index(index), text)).collect()
    }

    pub fn at_most(&mut self, at: &At, count: usize, limit: usize, what: &str) {
        if count > limit {
            self.problem(at, format!("{count} {what}, and at most {limit} are allowed"));
        }
    }

    pub fn duration(
        &mut self,
        at: &At,
        text: Option<&str>,
        default: Duration,
        (least, most): (Duration, Duration),
    ) -> Duration {
        let Some(text) = text else { return default };
        let Some(value) = self.problems.check(at, duration::parse(text)) else {
            return default;
        };
        if value < least || value > most {
            let (least, most) = (duration::show(least), duration::show(most));
            self.problem(at, format!("{text:?} is out of range: from {least:?} to {most:?}"));
        }
        value
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, at: &At, text: Option<&str>, words: &[(&str, T)]) -> Option<T> {
        let text = text?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problem(at, format!("{text:?} is not known here{}", suggestion(text, known)));
        }
        found
    }

    /// A bearer token, written in one of two ways.
    pub fn token(
        &mut self,
        at: &At,
        place: Option<&v1::SecretPlace>,
        file: Option<&str>,
        needed: &str,
    ) -> Option<Secret> {
        match (place, file) {
            (Some(place), None) => self.secret_place(&at.key("token"), place),
            (None, Some(file)) => self.secret_file(&at.key("token_file"), file),
            (Some(_), Some(_)) => {
                self.problem(&at.key("token_file"), "token and token_file are the same thing; write one of them");
                None
            }
            (None, None) => {
                self.problem(at, format!("{needed}; write token = {{ env = \"NAME\" }} or token_file = \"PATH\""));
                None
            }
        }
    }

    /// Names are not resolved: the address that is served must not depend on the thing that may be broken.
    pub fn listen(&mut self, at: &At, text: &str) -> Option<SocketAddr> {
        let parsed = text.parse::<SocketAddr>().map_err(|_| {
            format!("{text:?} is not an address to listen on; write an IP address and a port, such as \"127.0.0.1:5300\" or \"[::1]:5300\" (names are not resolved)")
        });
        self.problems.check(at, parsed)
    }

    pub fn certificates(&mut self, at: &At, written: &str) -> Vec<CertificateDer<'static>> {
        let Some(pem) = self.file(at, written) else {
            return Vec::new();
        };
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match parsed {
            Ok(certificates) if certificates.is_empty() => {
                self.problem(at, format!("{written} holds no PEM certificate (-----BEGIN CERTIFICATE-----)"));
                Vec::new()
            }
            Ok(certificates) => certificates,
            Err(error) => {
                self.problem(at, format!("{written} is not a PEM bundle of certificates: {error}"));
                Vec::new()
            }
        }
    }

    pub fn file(&mut self, at: &At, written: &str) -> Option<Vec<u8>> {
        let path = self.path(written);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(defaults::PEM_BYTES + 1).read_to_end(&mut bytes));
        self.problems.check(at, read.map_err(|error| format!("cannot read {}: {error}", path.display())))?;
        if bytes.len() as u64 > defaults::PEM_BYTES {
            self.problem(at, format!("{} is larger than {} bytes", path.display(), defaults::PEM_BYTES));
            return None;
        }
        Some(bytes)
    }

    pub fn secret_file(&mut self, at: &At, written: &str) -> Option<Secret> {
        let path = self.path(written);
        self.problems.check(at, secret::from_file(&path))
    }

    pub fn secret_place(&mut self, at: &At, place: &v1::SecretPlace) -> Option<Secret> {
        match (&place.env, &place.file) {
            (Some(name), None) => self.problems.check(at, secret::from_environment(name)),
            (None, Some(file)) => self.secret_file(at, file),
            (Some(_), Some(_)) | (None, None) => {
                self.problem(at, "write { env = \"NAME\" } or { file = \"PATH\" }, one of the two");
                None
            }
        }
    }
}
