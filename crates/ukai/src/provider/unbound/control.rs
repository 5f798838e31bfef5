//! Unbound's remote control: one TLS connection for each command, both sides known by certificates that
//! `unbound-control-setup` made (unbound-control(8), unbound.conf(5) "Remote Control Options").

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::provider::place::Fault;

/// A list of a million block-list entries takes about a second.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// The same list is about this long.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// The name that the server's certificate is made for.
const SERVER_NAME: &str = "unbound";
/// Version 1 of the protocol.
const GREETING: &str = "UBCT1 ";
/// Ends the lines of a command that takes some.
const END_OF_LINES: &str = "\u{4}\n";

pub struct Control {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    answer_bytes: u64,
}

impl Control {
    /// # Errors
    /// Key and certificate do not fit together.
    pub fn new(
        address: SocketAddr,
        server: CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Control, rustls::Error> {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let pinned = Arc::new(Pinned { certificate: server, crypto: Arc::clone(&crypto) });
        let mut tls = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(pinned)
            .with_client_auth_cert(chain, key)?;
        // Unbound sets no session context, so OpenSSL there fails on every session that is resumed.
        tls.resumption = Resumption::disabled();
        Ok(Control { address, tls: Arc::new(tls), answer_bytes: ANSWER_BYTES })
    }

    #[cfg(test)]
    pub fn with_answer_bytes(self, answer_bytes: u64) -> Control {
        Control { answer_bytes, ..self }
    }

    /// What it answers. An answer that begins with `error` is one.
    pub async fn run(&self, command: &str, lines: &[String]) -> Result<String, Fault> {
        let answer = match tokio::time::timeout(COMMAND_TIMEOUT, self.exchange(command, lines)).await {
            Ok(answer) => answer.map_err(|error| self.unreachable(&error))?,
            Err(_) => {
                let seconds = COMMAND_TIMEOUT.as_secs();
                return Err(Fault::passing(format!("{self} did not answer `{}` within {seconds} s", verb(command))));
            }
        };
        let Some(answer) = answer else {
            return Err(Fault::lasting(format!(
                "{self} answers `{}` with more than {} octets: all local data are read at once, and that is too much",
                verb(command),
                self.answer_bytes
            )));
        };
        match answer.strip_prefix("error") {
            Some(why) => Err(Fault::lasting(format!("{self} refused `{}`: {}", verb(command), why.trim()))),
            None => Ok(answer),
        }
    }

    /// None: the answer is longer than any that is read.
    async fn exchange(&self, command: &str, lines: &[String]) -> io::Result<Option<String>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let mut stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
        let mut text = format!("{GREETING}{command}\n");
        if !lines.is_empty() {
            lines.iter().for_each(|line| {
                text.push_str(line);
                text.push('\n');
            });
            text.push_str(END_OF_LINES);
        }
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        // Unbound closes TLS after each answer (close_notify): an end without that is an error, and nothing is taken for whole.
        let length = stream.take(self.answer_bytes + 1).read_to_end(&mut answer).await?;
        if length as u64 > self.answer_bytes {
            return Ok(None);
        }
        if answer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
        }
        Ok(Some(String::from_utf8_lossy(&answer).into_owned()))
    }

    fn unreachable(&self, error: &io::Error) -> Fault {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            return Fault::lasting(format!(
                "{self} and we do not take each other's certificate ({error}); copy unbound_server.pem, unbound_control.pem and \
                 unbound_control.key as `unbound-control-setup` made them there"
            ));
        }
        Fault::passing(format!(
            "{self} cannot be reached, or broke off its answer ({error}); it must run with `control-enable: yes` and `control-interface` where we reach it"
        ))
    }
}

fn verb(command: &str) -> &str {
    command.split(' ').next().unwrap_or(command)
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unbound's control at {}", self.address)
    }
}

/// The very certificate that we were given, whatever it says of itself.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
