//! Channel binding: the hash of the server's certificate by which a login proves that nobody is in between (RFC 5929, 4.1,
//! `tls-server-end-point`).

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// DER's tags (X.690, 8.9 and 8.19).
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The identifiers of signatures, as DER has them: 1.2.840.113549.1.1 with RSA (RFC 8017, A.2.4), 1.2.840.10045.4 with ECDSA (RFC 5758, 3.2).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// The hash of that certificate, by the hash function of its signature; SHA-256 instead of MD5 and SHA-1. None if the certificate
/// has another signature: the login then goes without channel binding.
pub(super) fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let signature = signature_algorithm(certificate)?;
    match (signature.strip_prefix(RSA), signature.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(Sha256::digest(certificate).to_vec()),
        (Some([12]), _) | (_, Some([3, 3])) => Some(Sha384::digest(certificate).to_vec()),
        (Some([13]), _) | (_, Some([3, 4])) => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The identifier of a certificate's signature: `Certificate` is a sequence of the signed part, the algorithm of the signature and
/// the signature; the algorithm is a sequence that begins with its identifier (RFC 5280, 4.1).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    Some(element(algorithm, OBJECT_IDENTIFIER)?.0)
}

/// The content of the first element of DER, which has that tag, and the rest (X.690, 8.1).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length.checked_sub(0x80) {
        None => (usize::from(length), rest),
        Some(bytes @ 1..=4) => {
            let (length, rest) = rest.split_at_checked(usize::from(bytes))?;
            (length.iter().fold(0, |whole, byte| whole << 8 | usize::from(*byte)), rest)
        }
        Some(_) => return None,
    };
    (first == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty signed part, and a signature by that algorithm.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let der = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let algorithm = der(SEQUENCE, &der(OBJECT_IDENTIFIER, algorithm));
        der(SEQUENCE, &[der(SEQUENCE, &[]), algorithm].concat())
    }

    #[test]
    fn the_hash_function_is_that_of_the_signature() {
        for (start, end, length) in [
            (RSA, &[4][..], Some(32)),
            (RSA, &[5], Some(32)),
            (RSA, &[11], Some(32)),
            (RSA, &[12], Some(48)),
            (RSA, &[13], Some(64)),
            // RSASSA-PSS has its hash function elsewhere.
            (RSA, &[10], None),
            (ECDSA, &[1], Some(32)),
            (ECDSA, &[3, 2], Some(32)),
            (ECDSA, &[3, 3], Some(48)),
            (ECDSA, &[3, 4], Some(64)),
            // Ed25519 has none.
            (&[0x2b], &[0x65, 0x70], None),
        ] {
            let certificate = certificate(&[start, end].concat());
            assert_eq!(tls_server_end_point(&certificate).map(|hash| hash.len()), length, "{start:x?} {end:x?}");
        }
    }

    #[test]
    fn a_real_certificate_is_read() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let hash = Sha384::digest(certificate.der()).to_vec();
        assert_eq!(tls_server_end_point(certificate.der()), Some(hash));
        for length in 0..certificate.der().len() {
            tls_server_end_point(&certificate.der()[..length]);
        }
    }
}
