//! Whom a prober trusts.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::probe::{ProberError, ProberOptions};

/// Certificates of one file of extra roots; Mozilla's whole list has about 150.
pub const ROOTS_MAX: usize = 1000;

/// The roots that the options ask for; never none.
pub(crate) fn root_store(options: &ProberOptions) -> Result<RootCertStore, ProberError> {
    let mut roots = RootCertStore::empty();
    if options.use_system_roots {
        add_system_roots(&mut roots);
    }
    for (index, bundle) in options.extra_roots.iter().enumerate() {
        add_bundle(&mut roots, index, bundle)?;
    }
    if roots.is_empty() { Err(ProberError::NoRoots) } else { Ok(roots) }
}

fn add_system_roots(roots: &mut RootCertStore) {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "part of this machine's trust store cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        tracing::warn!("this machine has no trust store: Mozilla's list is used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
}

fn add_bundle(roots: &mut RootCertStore, index: usize, bundle: &[u8]) -> Result<(), ProberError> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(|_| ProberError::Pem { index })?;
        count += 1;
        if count > ROOTS_MAX {
            return Err(ProberError::TooManyRoots { index });
        }
        roots.add(certificate).map_err(|source| ProberError::Root { index, source })?;
    }
    if count == 0 { Err(ProberError::NoCertificate { index }) } else { Ok(()) }
}
