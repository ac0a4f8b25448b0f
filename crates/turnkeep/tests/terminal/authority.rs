//! An authority of the test's own, and certificates that it signs: as much of X.509 as that takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BOOLEAN: u8 = 0x01;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const LATER_TIME: u8 = 0x18;
/// Of a certificate: its version, its extensions; of a name: that it is one of DNS.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;

/// One that whoever trusts its certificate believes.
pub(crate) struct Authority {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
}

/// What a server shows, and its key as PKCS#8.
pub(crate) struct Shown {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let (key, _) = fresh_key();
        let is_authority = extension(BASIC_CONSTRAINTS, &of(SEQUENCE, &[&of(BOOLEAN, &[&[0xff]])]));
        let certificate = certificate(&key, &key, "An authority", &is_authority);
        Self { key, certificate }
    }

    /// Its certificate, as files hold it.
    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(&self.certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    /// Certifies that somebody is who this name leads to.
    pub(crate) fn certify(&self, name: &str) -> Shown {
        let (key, pkcs8) = fresh_key();
        let names = of(SEQUENCE, &[&of(DNS_NAME, &[name.as_bytes()])]);
        let certificate =
            certificate(&self.key, &key, "A server", &extension(ALTERNATIVE_NAME, &names));
        Shown { certificate, key: pkcs8 }
    }
}

fn fresh_key() -> (EcdsaKeyPair, Vec<u8>) {
    let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    (key, pkcs8.as_ref().to_vec())
}

fn certificate(
    issuer: &EcdsaKeyPair,
    key: &EcdsaKeyPair,
    subject: &str,
    extension: &[u8],
) -> Vec<u8> {
    let algorithm = of(SEQUENCE, &[&of(OBJECT, &[ECDSA_WITH_SHA256])]);
    let curve = of(SEQUENCE, &[&of(OBJECT, &[EC_PUBLIC_KEY]), &of(OBJECT, &[PRIME256V1])]);
    let valid = [of(UTC_TIME, &[b"250101000000Z"]), of(LATER_TIME, &[b"20991231235959Z"])].concat();
    let signed = of(
        SEQUENCE,
        &[
            &of(VERSION, &[&of(INTEGER, &[&[2]])]),
            &of(INTEGER, &[&[1]]),
            &algorithm,
            &named("An authority"),
            &of(SEQUENCE, &[&valid]),
            &named(subject),
            &of(SEQUENCE, &[&curve, &of(BITS, &[&[0], key.public_key().as_ref()])]),
            &of(EXTENSIONS, &[&of(SEQUENCE, &[extension])]),
        ],
    );
    let signature = issuer.sign(&SystemRandom::new(), &signed).unwrap();
    of(SEQUENCE, &[&signed, &algorithm, &of(BITS, &[&[0], signature.as_ref()])])
}

fn named(name: &str) -> Vec<u8> {
    let name = [of(OBJECT, &[COMMON_NAME]), of(UTF8, &[name.as_bytes()])].concat();
    of(SEQUENCE, &[&of(SET, &[&of(SEQUENCE, &[&name])])])
}

/// One that has to be understood.
fn extension(what: &[u8], value: &[u8]) -> Vec<u8> {
    of(SEQUENCE, &[&of(OBJECT, &[what]), &of(BOOLEAN, &[&[0xff]]), &of(OCTETS, &[value])])
}

/// A piece of DER.
fn of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap();
    let mut piece = vec![tag];
    match length.to_be_bytes() {
        [0, short @ ..128] => piece.push(short),
        [0, long] => piece.extend([0x81, long]),
        [high, low] => piece.extend([0x82, high, low]),
    }
    piece.extend(content);
    piece
}
