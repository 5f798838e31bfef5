//! The trust decision, with a memory: who answered is recorded also where the answer is "not trusted".
//!
//! The decision itself is webpki's, unchanged; a handshake that it refuses fails. webpki looks at the dates before the
//! issuer and at the issuer before the name, so a stranger's expired certificate would read as merely *expired*. Where
//! the dates are wrong the check is therefore asked again as of a moment at which they are right: if it still refuses,
//! that is the graver fault and the one that is told. The handshake fails either way.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use ukai_core::observe::Identity;

use crate::certificate;

/// Delegates to webpki and remembers what it saw. One per handshake.
#[derive(Debug)]
pub(crate) struct RecordingVerifier {
    inner: Arc<WebPkiServerVerifier>,
    seen: OnceLock<Seen>,
    /// The far side proved that it holds the certificate's key.
    holds_key: OnceLock<()>,
}

#[derive(Debug)]
struct Seen {
    leaf: CertificateDer<'static>,
    chain_length: usize,
    trusted: bool,
}

impl RecordingVerifier {
    pub(crate) fn new(inner: Arc<WebPkiServerVerifier>) -> Self {
        Self { inner, seen: OnceLock::new(), holds_key: OnceLock::new() }
    }

    /// Who answered, if the handshake came as far as a certificate. A certificate is public: only with the proof of
    /// its key is it an identity.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let seen = self.seen.get()?;
        let verified = seen.trusted && self.holds_key.get().is_some();
        certificate::identity(&seen.leaf, seen.chain_length, verified)
    }

    /// Whether a certificate that we trust was shown by somebody who does not hold its key.
    pub(crate) fn lacks_key(&self) -> bool {
        self.seen.get().is_some_and(|seen| seen.trusted) && self.holds_key.get().is_none()
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.seen.get().is_some_and(|seen| certificate::is_self_issued(&seen.leaf))
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify =
            |at: UnixTime| self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        let verdict = verify(now).map_err(|error| {
            let right_moment = moment_of_validity(&error, end_entity);
            match right_moment.map(verify) {
                Some(Err(graver)) if !is_date_error(&graver) => graver,
                _ => error,
            }
        });
        // The first certificate is the one that counts: there is no second handshake on a connection of ours.
        let _ = self.seen.set(Seen {
            leaf: end_entity.clone().into_owned(),
            chain_length: intermediates.len() + 1,
            trusted: verdict.is_ok(),
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.inner.verify_tls12_signature(message, cert, dss)?;
        let _ = self.holds_key.set(());
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.inner.verify_tls13_signature(message, cert, dss)?;
        let _ = self.holds_key.set(());
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_date_error(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

/// The end of the leaf's validity: its issuer, which lives longer, was most likely valid then too.
fn moment_of_validity(error: &Error, leaf: &CertificateDer<'_>) -> Option<UnixTime> {
    if !is_date_error(error) {
        return None;
    }
    let (_, not_after) = certificate::validity(leaf)?;
    let seconds = u64::try_from(not_after).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}
