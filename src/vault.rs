//! Secrets at rest: sealed where the operator has set `encryption_key`, and always found by a digest.
//!
//! A sealed secret is `sealed:1:` and base64 of a random 24-byte nonce and the ciphertext of XChaCha20-Poly1305
//! (draft-irtf-cfrg-xchacha). Its key is HMAC-SHA-256 of the operator's with a fixed label; so is the key of the digests.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce, aead::Aead as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::secret::Secret;

/// Seals, opens and digests secrets.
#[derive(Clone, Default)]
pub struct Vault {
    cipher: Option<XChaCha20Poly1305>,
    digest_key: [u8; 32],
}

/// A sealed secret cannot be opened with the operator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongKey;

impl Vault {
    /// A vault with the operator's key, or one that leaves secrets as they are.
    pub fn new(encryption_key: Option<&Secret>) -> Self {
        let Some(key) = encryption_key else {
            return Self::default();
        };
        Self {
            cipher: Some(XChaCha20Poly1305::new(
                &mac(key.expose().as_bytes(), "keystorm seal").into(),
            )),
            digest_key: mac(key.expose().as_bytes(), "keystorm digest"),
        }
    }

    /// Whether secrets are sealed, or stored as they are.
    pub const fn is_sealing(&self) -> bool {
        self.cipher.is_some()
    }

    /// The form in which a secret is stored.
    pub fn seal(&self, secret: &Secret, nonce: [u8; 24]) -> String {
        let plain = || secret.expose().to_owned();
        let Some(cipher) = &self.cipher else { return plain() };
        let Ok(sealed) = cipher.encrypt(XNonce::from_slice(&nonce), secret.expose().as_bytes()) else {
            return plain();
        };
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed);
        format!("{PREFIX}{}", STANDARD_NO_PAD.encode(bytes))
    }

    /// A stored secret. One from before the key was set is stored as it is.
    pub fn open(&self, stored: &str) -> Result<Secret, WrongKey> {
        let Some(sealed) = stored.strip_prefix(PREFIX) else {
            return Ok(Secret::new(stored));
        };
        let bytes = STANDARD_NO_PAD.decode(sealed).map_err(|_| WrongKey)?;
        let (nonce, sealed) = bytes.split_at_checked(24).ok_or(WrongKey)?;
        let cipher = self.cipher.as_ref().ok_or(WrongKey)?;
        let plain = cipher
            .decrypt(XNonce::from_slice(nonce), sealed)
            .map_err(|_| WrongKey)?;
        String::from_utf8(plain).map(Secret::new).map_err(|_| WrongKey)
    }

    /// What a secret is found by.
    pub fn digest(&self, secret: &str) -> String {
        STANDARD_NO_PAD.encode(mac(&self.digest_key, secret))
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.cipher.is_some() {
            "Vault(sealing)"
        } else {
            "Vault(plain)"
        })
    }
}

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    // HMAC takes keys of any length: `new_from_slice` cannot fail.
    let Ok(mut mac) = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

const PREFIX: &str = "sealed:1:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_with_its_key_alone() {
        let vault = Vault::new(Some(&Secret::new("the operator's")));
        let secret = Secret::new("sk-a-secret");
        let sealed = vault.seal(&secret, [7; 24]);
        assert!(!sealed.contains("secret"));
        assert_eq!(vault.open(&sealed), Ok(secret.clone()));
        assert_eq!(Vault::new(Some(&Secret::new("another"))).open(&sealed), Err(WrongKey));
        assert_eq!(Vault::default().open(&sealed), Err(WrongKey));
        assert_eq!(vault.open("sealed:1:!"), Err(WrongKey));
        assert_eq!(vault.open("sk-from-before"), Ok(Secret::new("sk-from-before")));
        assert_ne!(vault.digest("x"), Vault::default().digest("x"));
        assert_eq!(Vault::default().seal(&secret, [7; 24]), "sk-a-secret");
    }
}
