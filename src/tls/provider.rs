//! The cryptography below every TLS configuration.

use std::sync::Arc;

/// Returns the provider of every algorithm.
pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
