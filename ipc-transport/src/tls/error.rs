//! What can be wrong with a certificate, a configuration or a handshake.

use std::io;

use rustls::{CertificateError, Error};

/// Why there is no TLS connection, or no configuration for one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate is malformed, badly signed, revoked, or not made for this purpose.
    #[error("the peer's certificate is of no use: {reason}")]
    BadCertificate {
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration does not hold together.
    #[error("the TLS configuration does not hold together: {reason}")]
    Config {
        /// What does not fit.
        reason: String,
    },
    /// The certificate's time is over.
    #[error("the peer's certificate has expired; it needs a new one, or one of the clocks is wrong")]
    Expired,
    /// What is to be certified is neither a DNS name nor an IP address.
    #[error("{name:?} is neither a DNS name nor an IP address, so no certificate can bear it")]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// The listener asks for a certificate and the dialler showed none.
    #[error("the client showed no certificate; give its ClientConfig an identity")]
    NoClientCertificate,
    /// The transport was not told how to dial.
    #[error("this transport cannot dial; give it a ClientConfig with TlsTransport::client")]
    NoClientConfig,
    /// The two sides have no protocol in common (ALPN).
    #[error("the two sides have no protocol in common")]
    NoCommonProtocol,
    /// The transport was not told how to listen, or who it is.
    #[error(
        "this transport cannot listen; give it a ServerConfig, with certificate and key, by TlsTransport::server"
    )]
    NoServerConfig,
    /// The peer sent something that is not TLS.
    #[error("the peer does not speak TLS: {reason}")]
    NotTls {
        /// What came instead.
        reason: String,
    },
    /// The certificate's time has not begun.
    #[error("the peer's certificate is not valid yet; one of the clocks is wrong, or the certificate is")]
    NotYetValid,
    /// A certificate, key or root does not read.
    #[error("the {what} cannot be read: {reason}")]
    Pem {
        /// What was to be read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS failed in another way.
    #[error("TLS failed: {reason}")]
    Protocol {
        /// What happened.
        reason: String,
    },
    /// The peer broke off and said why. A dialler whose certificate is refused finds it in its first read, see
    /// [`TlsTransport`](crate::TlsTransport).
    #[error("the peer refused: {alert}")]
    Rejected {
        /// The alert that it sent, by its name in RFC 8446 without underscores: `UnknownCA`, `CertificateExpired`.
        alert: String,
    },
    /// The certificate does not lead to a trusted root.
    #[error("the peer's certificate leads to no trusted root; the two sides have different authorities")]
    UnknownIssuer,
    /// The certificate bears another name.
    #[error("the peer's certificate does not bear the name {expected}, only {presented:?}")]
    WrongName {
        /// The name that was dialled.
        expected: String,
        /// The names that it bears.
        presented: Vec<String>,
    },
}

impl TlsError {
    /// The nearest [`io::ErrorKind`].
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Config { .. }
            | Self::InvalidName { .. }
            | Self::NoClientConfig
            | Self::NoServerConfig
            | Self::Pem { .. } => io::ErrorKind::InvalidInput,
            Self::NotTls { .. } | Self::Protocol { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::PermissionDenied,
        }
    }

    pub(super) fn of_rustls(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::Rejected { alert: format!("{alert:?}") },
            Error::InappropriateMessage { .. } | Error::InvalidMessage(_) => {
                Self::NotTls { reason: error.to_string() }
            }
            Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::NoCertificatesPresented => Self::NoClientCertificate,
            _ => Self::Protocol { reason: error.to_string() },
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForNameContext { expected, presented } => {
                Self::WrongName { expected: expected.to_str().into_owned(), presented: presented.clone() }
            }
            _ => Self::BadCertificate { reason: error.to_string() },
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(error.kind(), error)
    }
}
