//! Bytes against the file and the secrets.

use std::path::Path;

use turnkeep_fuzz::{Target, fuzz};

use super::super::listeners::decode;
use super::super::problem::Problems;
use super::super::read::{Scope, read_file};
use super::super::resolved::resolve;
use super::{Env, check};

const FILE: Target<'static> = Target {
    name: "config",
    seeds: &[
        b"listen = \"127.0.0.1:7878\"\nlog_text = true\n[gateway]\nwait_seconds_max = 5\n",
        b"[channels.web]\nwindow_ms = 800\nbusy_policy = \"absorb\"\n[tenants.acme]\nrate_per_minute = 30\n",
        b"[agents.default]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n[agents.default.policy]\nerrors_max = 2\n",
        b"hosts = [\"a.example\"]\ntrusted_proxies = [\"10.0.0.0/8\"]\n[guard]\nterms = [\"casino\"]\npatterns = ['\\d{16}']\n",
        b"[listeners.shop]\nurl = \"https://hooks.example/x\"\nsecret_env = \"SECRET\"\npattern = [\"turn.*\"]\n",
    ],
    words: &[
        b"[gateway]", b"[guard]", b"[channels.web]", b"[agents.a]", b"[tenants.\"\"]", b"=", b"\"",
        b"'''", b"[[", b"{", b"}", b"inf", b"nan", b"0x", b"1979-05-27", b"true", b"kind = \"echo\"",
        b"(?i)", b"(a+)+", b"{1,1000}", b"http://", b"https://[::1]", b"\\u0000", b"/24", b"# ",
    ],
    length_max: 2048,
};

/// Every file is read or told what is wrong with it, by its line; a secret is never repeated.
#[test]
fn fuzz_files() {
    let env = Env::from([("SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjU")]);
    fuzz(&FILE, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let mut problems = Problems::default();
        let raw = read_file(Path::new("turnkeep.toml"), text, Scope::All, &mut problems);
        let resolved = resolve(raw, None, &env, &mut problems);
        let said = format!("{problems} {resolved:?}");
        assert!(!said.contains("MfKQ9r8G"), "{said}");
    });
}

/// A secret is what the scheme says or is refused, and what it was is not told.
#[test]
fn fuzz_signing_secrets() {
    let target = Target {
        name: "signing_secret",
        seeds: &[b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjU", b"whsec_AAAA"],
        words: &[b"whsec_", b"=", b"==", b"+/", b"-_"],
        length_max: 200,
    };
    fuzz(&target, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        match decode(text) {
            Ok(secret) => {
                assert!((24..=64).contains(&secret.expose().len()));
                assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
            }
            Err(why) => check_silence(&why, text),
        }
    });
}

/// Nothing that could be a secret's is repeated.
fn check_silence(why: &str, text: &str) {
    let secret = text.strip_prefix("whsec_").unwrap_or(text);
    assert!(secret.len() < 20 || !why.contains(secret), "{why}");
}

/// What the fuzzer leans on: the file's own reader, without a folder.
#[test]
fn the_seeds_are_right() {
    for seed in &FILE.seeds[..4] {
        check(std::str::from_utf8(seed).unwrap(), "");
    }
}
