//! Signatures of JSON Web Tokens (RFC 7515): RS256 and ES256, by a private key in PEM.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// What an elliptic key in the older format lacks (RFC 5208): the algorithm, which is `id-ecPublicKey` on the curve P-256.
const P256: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];

/// A private key that signs JSON Web Tokens.
pub struct SigningKey(Algorithm);

enum Algorithm {
    Rs256(Box<RsaKeyPair>),
    Es256(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// Reads a key in PEM (PKCS #8, PKCS #1 or SEC 1), which blocks. The error says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let key =
            PrivateKeyDer::from_pem_file(path).map_err(|error| format!("it has no private key in PEM: {error}"))?;
        let algorithm = match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(rs256),
            PrivateKeyDer::Sec1(der) => es256(&to_pkcs8(der.secret_sec1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                RsaKeyPair::from_pkcs8(der).ok().map(rs256).or_else(|| es256(der))
            }
            _ => None,
        };
        algorithm
            .map(Self)
            .ok_or_else(|| "its key is neither RSA with 2048 to 4096 bits nor EC on the curve P-256".to_owned())
    }

    /// The name of the algorithm in the header of a token.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Algorithm::Rs256(_) => "RS256",
            Algorithm::Es256(_) => "ES256",
        }
    }

    /// The compact form of a token with this header and these claims, which are JSON.
    pub fn sign(&self, header: &str, claims: &str) -> Result<String, String> {
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.0 {
            Algorithm::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature).map(|()| signature)
            }
            Algorithm::Es256(key) => key.sign(&random, token.as_bytes()).map(|signature| signature.as_ref().to_vec()),
        };
        let signature = signature.map_err(|_| "the private key can't sign".to_owned())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

fn rs256(key: RsaKeyPair) -> Algorithm {
    Algorithm::Rs256(Box::new(key))
}

fn es256(pkcs8: &[u8]) -> Option<Algorithm> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()?;
    Some(Algorithm::Es256(Box::new(key)))
}

/// An elliptic key in the format that ring reads. A key on another curve is then refused by ring.
fn to_pkcs8(sec1: &[u8]) -> Vec<u8> {
    let version = [0x02, 0x01, 0x00];
    der(0x30, &[&version[..], &P256, &der(0x04, sec1)].concat())
}

/// A value in DER. The length of a key fits into two bytes; a longer one is refused by ring.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ ..=127) => out.push(short),
        Ok(long) => out.extend([0x81, long]),
        Err(_) => {
            let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
            out.extend([0x82, high, low]);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    /// Runs openssl in the directory.
    fn openssl(dir: &Path, arguments: &str) {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The parts of a token: what is signed, and the signature.
    fn parts(token: &str) -> (&str, Vec<u8>) {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        (signed, URL_SAFE_NO_PAD.decode(signature).unwrap())
    }

    #[test]
    fn keys_of_every_format_sign_what_openssl_s_public_key_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        openssl(dir, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa8.pem");
        openssl(dir, "rsa -in rsa8.pem -traditional -out rsa1.pem");
        openssl(dir, "rsa -in rsa8.pem -RSAPublicKey_out -outform DER -out rsa.pub");
        openssl(dir, "ecparam -name prime256v1 -genkey -out sec1.pem");
        openssl(dir, "pkcs8 -topk8 -nocrypt -in sec1.pem -out ec8.pem");
        openssl(dir, "ec -in sec1.pem -pubout -outform DER -out ec.pub");
        let rsa = std::fs::read(dir.join("rsa.pub")).unwrap();
        let ec = std::fs::read(dir.join("ec.pub")).unwrap();
        for (file, algorithm) in
            [("rsa8.pem", "RS256"), ("rsa1.pem", "RS256"), ("sec1.pem", "ES256"), ("ec8.pem", "ES256")]
        {
            let key = SigningKey::read(&dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(key.algorithm(), algorithm, "{file}");
            let token = key.sign("{}", r#"{"sub":"me"}"#).unwrap();
            let (signed, signature) = parts(&token);
            assert!(signed.starts_with("e30.eyJzdWIiOiJtZSJ9"), "{signed}");
            let verified = if algorithm == "RS256" {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &rsa).verify(signed.as_bytes(), &signature)
            } else {
                // The point is at the end of the public key.
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &ec[ec.len() - 65..])
                    .verify(signed.as_bytes(), &signature)
            };
            assert!(verified.is_ok(), "{file}");
        }
    }

    #[test]
    fn other_keys_and_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        openssl(dir, "ecparam -name secp384r1 -genkey -out p384.pem");
        openssl(dir, "genpkey -algorithm ed25519 -out ed.pem");
        openssl(dir, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out short.pem");
        std::fs::write(dir.join("text.pem"), "no key").unwrap();
        let error = |file: &str| SigningKey::read(&dir.join(file)).err().unwrap_or_default();
        for file in ["p384.pem", "ed.pem", "short.pem"] {
            assert!(error(file).starts_with("its key is neither RSA"), "{file}: {}", error(file));
        }
        for file in ["text.pem", "missing.pem"] {
            assert!(error(file).starts_with("it has no private key in PEM"), "{file}: {}", error(file));
        }
    }
}
