//! The key that messages are signed with.

use std::fmt;
use std::sync::Arc;

use domain::tsig::{Algorithm, Key, KeyName};

use crate::name::Name;

/// RFC 8945, 6: hmac-sha256 must be there; what is older than it is not taken.
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("hmac-sha256", Algorithm::Sha256), ("hmac-sha384", Algorithm::Sha384), ("hmac-sha512", Algorithm::Sha512)];
/// Half of hmac-sha256: what is shorter can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// A TSIG key (RFC 8945). It never prints its secret.
#[derive(Clone)]
pub struct TsigKey {
    name: Name,
    algorithm: &'static str,
    key: Arc<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("{algorithm:?} is not an algorithm that is signed with; write hmac-sha256, hmac-sha384 or hmac-sha512")]
    Algorithm { algorithm: String },
    #[error("{0}")]
    Name(String),
    #[error("a key is written ALGORITHM:NAME:SECRET, such as hmac-sha256:ukai: and the secret in Base64")]
    Parts,
    #[error("the secret is not Base64; `tsig-keygen -a hmac-sha256` prints one")]
    Base64,
    #[error(
        "the secret has {octets} octets, and fewer than {SECRET_BYTES_MIN} can be guessed; make one with `tsig-keygen -a hmac-sha256`"
    )]
    TooShort { octets: usize },
}

impl TsigKey {
    /// `secret` is the key itself, after Base64 is taken off.
    ///
    /// # Errors
    /// The name is none, the algorithm is not one of SHA-2, or the secret is short.
    pub fn new(name: &str, algorithm: &str, secret: &[u8]) -> Result<Self, KeyError> {
        let wanted = algorithm.trim_end_matches('.').to_ascii_lowercase();
        let (algorithm, hash) = ALGORITHMS
            .iter()
            .find(|(known, _)| *known == wanted)
            .ok_or_else(|| KeyError::Algorithm { algorithm: algorithm.to_owned() })?;
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::TooShort { octets: secret.len() });
        }
        let name: Name = name.parse().map_err(|error: crate::name::NameError| KeyError::Name(error.to_string()))?;
        let of_key = key_name(&name).ok_or_else(|| KeyError::Name(format!("{name} is too long")))?;
        let key = Key::new(*hash, secret, of_key, None, None).map_err(|error| KeyError::Name(error.to_string()))?;
        Ok(Self { name, algorithm, key: Arc::new(key) })
    }

    /// `ALGORITHM:NAME:SECRET`, the secret in Base64, as `dig -y` and `nsupdate -y` take it, or a [`key_statement`].
    ///
    /// # Errors
    /// It has other parts, or what [`TsigKey::new`] says. No error repeats the secret.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let (algorithm, name, secret) = match (key_statement(text), &text.split(':').collect::<Vec<_>>()[..]) {
            (Some(statement), _) => (statement.algorithm, statement.name, statement.secret),
            (None, &[algorithm, name, secret]) => (algorithm, name, secret),
            (None, _) => return Err(KeyError::Parts),
        };
        let secret: Vec<u8> = domain::utils::base64::decode(secret).map_err(|_| KeyError::Base64)?;
        Self::new(name, algorithm, &secret)
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    pub(crate) fn key(&self) -> Arc<Key> {
        Arc::clone(&self.key)
    }
}

/// The parts of a key statement as `tsig-keygen` prints it.
#[derive(Clone, Copy)]
pub struct KeyStatement<'a> {
    pub name: &'a str,
    pub algorithm: &'a str,
    /// In Base64.
    pub secret: &'a str,
}

/// `key "NAME" { algorithm ALGORITHM; secret "SECRET"; };`, over one line or several.
pub fn key_statement(text: &str) -> Option<KeyStatement<'_>> {
    let (head, body) = text.trim().strip_prefix("key")?.split_once('{')?;
    let value = |keyword: &str| {
        let found = body.split([';', '}']).find_map(|part| part.trim().strip_prefix(keyword))?;
        Some(found.trim().trim_matches('"'))
    };
    Some(KeyStatement { name: head.trim().trim_matches('"'), algorithm: value("algorithm")?, secret: value("secret")? })
}

fn key_name(name: &Name) -> Option<KeyName> {
    let octets = domain::dep::octseq::array::Array::<255>::try_from(name.as_wire()).ok()?;
    KeyName::from_octets(octets).ok()
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigKey({}, {})", self.name, self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha2_and_only_secrets_that_cannot_be_guessed() {
        assert!(TsigKey::new("ukai", "HMAC-SHA256.", &[7; 32]).is_ok());
        for algorithm in ["hmac-md5.sig-alg.reg.int", "hmac-sha1", "sha256"] {
            let error = TsigKey::new("ukai", algorithm, &[7; 32]).unwrap_err();
            assert!(error.to_string().contains("hmac-sha256"), "{error}");
        }
        assert_eq!(TsigKey::new("ukai", "hmac-sha512", &[7; 15]).unwrap_err(), KeyError::TooShort { octets: 15 });
    }

    #[test]
    fn a_key_as_text() {
        let key = TsigKey::from_text("hmac-sha256:ukai:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
        assert_eq!((key.name().to_string().as_str(), key.algorithm()), ("ukai", "hmac-sha256"));
        let statement = "key \"ukai\" {\n\talgorithm hmac-sha256;\n\tsecret \"MDEyMzQ1Njc4OWFiY2RlZg==\";\n};";
        let same = TsigKey::from_text(statement).unwrap();
        assert_eq!((same.name(), same.algorithm()), (key.name(), key.algorithm()));
        assert_eq!(TsigKey::from_text("ukai:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap_err(), KeyError::Parts);
        assert_eq!(TsigKey::from_text("hmac-sha256:ukai:not base64").unwrap_err(), KeyError::Base64);
    }

    #[test]
    fn it_does_not_print_its_secret() {
        let printed = format!("{:?}", TsigKey::new("ukai", "hmac-sha256", b"0123456789abcdef").unwrap());
        assert_eq!(printed, "TsigKey(\"ukai\", hmac-sha256)".replace('"', ""));
    }
}
